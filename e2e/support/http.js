// Requests letter by letter, as no browser would send them.
// Goes in: a port of this machine, a path that nothing normalises, headers. Comes out: status, headers, body.
// Never here: redirects followed, cookies kept.
import { request } from 'node:http';
import { request as requestTls } from 'node:https';

/** Sends one request to 127.0.0.1 and reads the whole answer. `tls`: over https, whoever answers there. */
export function ask(port, path, { headers = {}, method = 'GET', body = '', tls } = {}) {
  return new Promise((resolve, reject) => {
    const send = tls ? requestTls : request;
    const question = send({ host: '127.0.0.1', port, path, method, headers, agent: false, rejectUnauthorized: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part) => (text += part));
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: text }));
    });
    question.on('error', reject);
    question.end(body);
  });
}
