// An application in Node: tells in `X-Seen` how a program in this language reads the request, in several usual ways.
import { createServer } from 'node:http';
import { posix } from 'node:path';

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

const server = createServer((request, response) => {
  const raw = request.url;
  const url = URL.canParse(raw, 'http://application') ? new URL(raw, 'http://application') : undefined;
  const path = raw.split('?')[0];
  const readings = {
    url: url?.pathname ?? raw, // WHATWG: dot segments resolved, %2e too
    decoded: decoded(url?.pathname ?? raw),
    split: decoded(path), // as Express and Koa do
    normalized: posix.normalize(decoded(path)),
    twice: posix.normalize(decoded(decoded(path))),
  };
  const header = (name) => request.headers[name] ?? '';
  // As the packages method-override and iisnode's applications do.
  for (const name of ['x-original-url', 'x-rewrite-url']) if (header(name)) readings[name] = header(name).split('?')[0];
  const overriding = ['x-http-method-override', 'x-method-override', 'x-http-method'].map(header).find(Boolean);
  const seen = {
    method: (request.method === 'POST' && overriding) || request.method, raw, readings, organization: header('doorward-organization'), role: header('doorward-role'), user: header('remote-user'),
    cookie: header('cookie'), upgrade: header('upgrade'), all: request.rawHeaders.join('\n'),
    hosts: [header('host'), header('x-forwarded-host')],
  };
  request.resume().on('end', () => {
    response.setHeader('X-Seen', Buffer.from(JSON.stringify(seen)).toString('base64')).setHeader('Content-Length', 0).end();
  });
});

server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
