// A scripted visitor with a cookie jar, for what needs a session and no browser: signs in as a person would, letter by letter.
// Goes in: the port of a proxy, through which both hosts are reached. Comes out: the cookies of each host.
// Never here: scripts, pictures, anything that a page does by itself but its redirect.
import { ask } from './http.js';
import { password } from './stage.js';

const STEPS_MAX = 12;

/** Signs in as `name` where the application at `origin` sends people for it. Returns the value of the application's cookie. */
export async function signInThrough(port, origin, name) {
  return (await walkIn(port, origin, name)).cookie;
}

/** The same; returns the way too, as "status address" for each step. */
export async function walkIn(port, origin, name) {
  const https = origin.startsWith('https:');
  const cookieName = https ? '__Host-doorward-app' : 'doorward-app';
  const jar = new Map(); // host → Map(name → value)
  const cookies = (host) => [...(jar.get(host) ?? new Map())].map(([cookie, value]) => `${cookie}=${value}`).join('; ');
  const visit = async (address, { method = 'GET', body = '' } = {}) => {
    const { host, origin: own, pathname, search } = new URL(address);
    const headers = { Host: host, Accept: 'text/html', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Site': 'same-origin', Cookie: cookies(host) };
    if (method === 'POST') Object.assign(headers, { Origin: own, 'Content-Type': 'application/x-www-form-urlencoded' });
    const answer = await ask(port, pathname + search, { method, body, headers, tls: https });
    for (const line of answer.headers['set-cookie'] ?? []) {
      const [, cookie, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (!jar.has(host)) jar.set(host, new Map());
      jar.get(host).set(cookie, value);
    }
    return answer;
  };

  let address = `${origin}/.doorward/start?next=/static/a`;
  const way = [];
  for (let step = 0; step < STEPS_MAX; step += 1) {
    let answer = await visit(address);
    if (new URL(address).pathname === '/login' && answer.status === 200) {
      const next = new URL(address).searchParams.get('next') ?? '/';
      answer = await visit(address, { method: 'POST', body: new URLSearchParams({ username: name, password: password(name), next }).toString() });
    }
    way.push(`${answer.status} ${address}`);
    const to = answer.headers.location ?? unescaped(/http-equiv="refresh" content="\d+; ?url=([^"]+)"/i.exec(answer.body)?.[1]);
    const mine = jar.get(new URL(origin).host)?.get(cookieName);
    if (mine) return { cookie: mine, way };
    if (!to) break;
    address = new URL(to, address).href;
  }
  throw new Error(`${name} could not sign in at ${origin}:\n${way.join('\n')}`);
}

function unescaped(text) {
  return text?.replaceAll('&#38;', '&').replaceAll('&amp;', '&').replaceAll('&#39;', "'").replaceAll('&#61;', '=').replaceAll('&#x2F;', '/');
}
