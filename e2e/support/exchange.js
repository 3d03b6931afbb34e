// One HTTP exchange, byte for byte: what a stranger's own program would send, and what came back.
// Goes in: a port of this machine and the bytes of a request. Comes out: status, headers, body.
// Never here: anything that corrects a request.
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

/**
 * Sends these bytes; resolves when the answer is whole or the other side ends it. `afterwards`: what is sent once the other
 * side has switched protocols, and comes back. `tls`: over https, asking for the certificate of this name, whatever comes.
 */
export function exchange(port, bytes, { afterwards, tls, timeoutMs = 10_000 } = {}) {
  return new Promise((resolve, reject) => {
    const write = () => socket.write(Buffer.from(bytes, 'latin1'));
    const secure = { port, host: '127.0.0.1', servername: tls, rejectUnauthorized: false };
    const socket = tls ? connectTls(secure, write) : connect(port, '127.0.0.1', write);
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs} ms; so far: ${seen.slice(0, 200)}`)), timeoutMs);
    let seen = '';
    let done = false;
    const finish = () => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      socket.destroy();
      resolve(parse(seen));
    };
    socket.setEncoding('latin1').on('data', (part) => {
      const begins = !seen.includes('\r\n\r\n');
      seen += part;
      if (afterwards && begins && /^HTTP\/1.1 101[\s\S]*\r\n\r\n/.test(seen)) socket.write(afterwards);
      if (afterwards ? seen.endsWith(afterwards) : isWhole(seen)) finish();
    });
    socket.on('end', finish);
    socket.on('close', finish);
    socket.on('error', (error) => {
      // A proxy that refuses early may reset the connection; what came before counts.
      if (seen.includes('\r\n\r\n')) return finish();
      clearTimeout(timer);
      reject(error);
    });
  });
}

/** The request's bytes. `headers`: [name, value] pairs, as they are; `Host` and `Connection` are the caller's too. `trailers`: the same, behind a chunked body. */
export function requestBytes({ method = 'GET', target, version = '1.1', headers, body = '', trailers }) {
  const written = (pairs) => pairs.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const lines = written(headers);
  if (trailers) {
    const chunk = body ? `${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n` : '';
    const names = trailers.map(([name]) => name).join(', ');
    return `${method} ${target} HTTP/${version}\r\n${lines}Transfer-Encoding: chunked\r\nTrailer: ${names}\r\n\r\n${chunk}0\r\n${written(trailers)}\r\n`;
  }
  const length = body ? `Content-Length: ${Buffer.byteLength(body)}\r\n` : '';
  return `${method} ${target} HTTP/${version}\r\n${lines}${length}\r\n${body}`;
}

/** Whether an answer with a length is all there. Others end with their connection. */
function isWhole(text) {
  const end = text.indexOf('\r\n\r\n');
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end))?.[1];
  return end >= 0 && length !== undefined && text.length >= end + 4 + Number(length);
}

function parse(text) {
  const end = text.indexOf('\r\n\r\n');
  const [first, ...lines] = text.slice(0, end < 0 ? text.length : end).split('\r\n');
  const headers = lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]);
  const header = (name) => headers.find(([known]) => known === name)?.[1];
  const raw = end < 0 ? '' : text.slice(end + 4);
  const body = /chunked/i.test(header('transfer-encoding') ?? '') ? unchunked(raw) : raw;
  return { status: Number(first.split(' ')[1]) || 0, headers, header, body: Buffer.from(body, 'latin1').toString('utf8'), raw: text };
}

function unchunked(text) {
  let rest = text;
  let whole = '';
  for (;;) {
    const length = Number.parseInt(rest, 16);
    if (!(length > 0)) return whole;
    const begins = rest.indexOf('\r\n') + 2;
    whole += rest.slice(begins, begins + length);
    rest = rest.slice(begins + length + 2);
  }
}
