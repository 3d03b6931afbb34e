// Requests as nobody should send them, made by chance from a seed: targets, hosts, methods, headers, upgrades, credentials.
// Goes in: a seed and how many. Comes out: rows for exchange.js. The same seed gives the same rows.
// Never here: what must come of them (journeys/differential.test.js).

/** A value that must never arrive at an application. */
export const FORGED = 'F0RGED';

const LABELS = ['acme', 'acme', 'globex', 'globex', 'ACME', 'Globex', 'umbrella', 'sso', 'SSO'];
const ODD_LABELS = ['', '.', 'a.acme', 'acme.globex', 'globex.acme', 'acme.', '.acme', '*', '{org}', 'acme%2eglobex', '%61cme', 'acme_', '-acme', 'acme-', 'acme,globex', 'acme globex', 'acme\t',
  'globex@acme', 'acme:80@globex', 'acme#', 'acme?', 'acme/', 'acme\\', 'xn--acme-', 'ac\u00e9me', 'acme;', 'acme:1', `${'a'.repeat(63)}`, `${'a'.repeat(64)}`];
const ODD_HOSTS = ['apps.localhost:PORT', 'acmeapps.localhost:PORT', 'acme.appsxlocalhost:PORT', 'acme.apps.localhost.example:PORT', 'acme.apps.localhost', 'acme.apps.localhost.:PORT', 'acme.apps.localhost:1',
  'acme.apps.localhost:PORT, globex.apps.localhost:PORT', 'localhost:PORT', '127.0.0.1:PORT', '[::1]:PORT', ''];

/** Numbers in [0, 1) from a seed (mulberry32). */
export function chances(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const NAMES = ['acme', 'globex', 'acme', 'ACME', 'Globex', 'website', 'secret', 'plans', 'static', 'nobody', '.doorward', 'a'];
const ODD = [
  '..', '.', '%2e%2e', '.%2e', '%2E', '%252e%252e', '..%2f', '..;', '..;x', ';', ';x=/globex', '%3b', '', '%20', '%00', '%0a', '%09', '+', '%2b', '%2f', '%2F..%2F',
  '%5c', '..%5c', '\\', '..\\', '%c0%ae%c0%ae', '%c0%af', '%e0%80%ae', '%uff0e', '%ef%bc%8f', '%ef%bc%8e%ef%bc%8e', '%', '%2', '%zz', '~', '*', ':', '@', '%40', '|', '`', '"',
  '{acme}', '%7Bacme%7D', 'acme.', '.acme', 'acme%20', '%20acme', 'acme%00', 'acme;x', 'acme%3bx', 'acme:80', 'ac%6de', '%61cme', '%2561cme', 'acm%C4%B1', '%EF%BC%A1cme', 'acme%2fsecret',
  'globex%2f..%2facme', 'acme%5csecret', 'acme..', '...', '....', 'caf\u00e9',
];
const METHODS = ['GET', 'GET', 'GET', 'GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'get', 'Post', 'GETS', 'CONNECT', 'QUERY'];
const HOSTS = ['HUB.localhost:PORT', 'hub.localhost', 'hub.localhost.:PORT', 'localhost:PORT', 'other.localhost:PORT', '127.0.0.1:PORT',
  'hub.localhost:PORT@other', 'hub.localhost:1', '', 'other.localhost, hub.localhost:PORT', '[::1]:PORT', 'hub.localhost:PORT/acme'];
const PATHS_ELSEWHERE = ['/static/x', '/static', '/acme/website', '/acme', '/globex/plans', '/acme/secret', '/'];
const IDENTITY = ['Remote-User', 'Remote-Name', 'Remote-Email', 'Remote-Groups', 'Doorward-Account', 'Doorward-Organization', 'Doorward-Role', 'Doorward-Assertion', 'Doorward-Sso'];
const ABOUT_PATHS = ['X-Original-URL', 'X-Original-URI', 'X-Rewrite-URL', 'X-Forwarded-Uri', 'X-Forwarded-Path', 'X-Forwarded-Prefix', 'X-Forwarded-Url', 'X-Envoy-Original-Path', 'X-Accel-Redirect', 'Request-Uri', 'X-Script-Name', 'Script-Name', 'Daphne-Root-Path', 'Path-Info'];
const ABOUT_METHODS = ['X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override', 'X-Original-Method', 'X-Forwarded-Method'];
const ABOUT_HOSTS = ['X-Forwarded-Host', 'X-Host', 'X-Original-Host', 'X-Forwarded-Server', 'Forwarded'];
const UPGRADES = ['websocket', 'WebSocket', 'h2c', 'TLS/1.0', 'websocket, h2c', 'h2c, websocket', 'connect-udp', 'HTTP/2.0'];

/** `count` rows: { target, method, host, headers, as, version, body, connection }. HOST and PORT stand for the stage's own. */
export function* variants(seed, count) {
  const chance = chances(seed);
  const one = (list) => list[Math.floor(chance() * list.length)];
  const often = (share) => chance() < share;
  const spelled = (name) => one([name, name, name.toLowerCase(), name.toUpperCase(), name.replaceAll('-', '_'), name.replace('-', '_'), name.replaceAll('-', '.'), `${name} `, `${name}\t`]);

  const segment = (odd) => (!often(odd) ? one(NAMES) : often(0.7) ? one(ODD) : one(NAMES) + one(ODD));
  const encodedSomewhere = (path) => {
    const at = Math.floor(chance() * path.length);
    const code = `%${path.charCodeAt(at).toString(16).padStart(2, '0')}`;
    return path.slice(0, at) + (often(0.3) ? code.replace('%', '%25') : code) + path.slice(at + 1);
  };
  // Most of a path is such as people ask for, so that what is odd gets past the first look.
  const path = () => {
    const odd = one([0, 0.05, 0.1, 0.3]);
    let text = often(0.6) ? one(['/acme', '/acme', '/globex', '/static', '/ACME', '/acme/website', '/acme/secret', '/globex/plans']) : '';
    for (let n = (text ? 0 : 1) + Math.floor(chance() * 4); n > 0; n -= 1) {
      text += (often(1 - odd / 4) ? '/' : one(['//', '\\', '%2f', '', '/./', '/;/', '%5c'])) + segment(odd);
    }
    if (often(0.2)) text = encodedSomewhere(text);
    if (often(0.12)) text += one(['/', '/', '?a=1', '?next=//x/../y', '//', '?', '?x=/globex/y', '#', '#/static/', '%23', '%3f/static', ';', '/.', '/..', ' ', '?a=%2e%2e&b=//', '.css', '.php', '/index.php/acme/secret']);
    return text;
  };
  const target = () => {
    if (often(0.92)) return path();
    return one([
      () => `http://HOST${path()}`, () => `HTTP://HOST${path()}`, () => `http://other.localhost:PORT${path()}`, () => `https://HOST${path()}`, () => `http://u:p@HOST${path()}`,
      () => `http:${path()}`, () => `//other.localhost${path()}`, () => 'HOST', () => '*', () => path().slice(1), () => `?${path()}`, () => `file://${path()}`, () => '',
    ])();
  };

  for (let n = 0; n < count; n += 1) {
    const headers = [];
    const forge = (names, values) => {
      for (let times = one([1, 1, 2, 3]); times > 0; times -= 1) headers.push([spelled(one(names)), one(values)]);
    };
    if (often(0.25)) forge(IDENTITY, [FORGED, `admin, ${FORGED}`, `globex ${FORGED}`]);
    if (often(0.15)) forge(ABOUT_PATHS, PATHS_ELSEWHERE);
    if (often(0.1)) forge(ABOUT_METHODS, ['GET', 'HEAD', 'OPTIONS', 'DELETE']);
    if (often(0.1)) forge(ABOUT_HOSTS, ['localhost', 'other.localhost', 'host=other.localhost;proto=https', 'hub.localhost']);
    if (often(0.05)) headers.push(['X-Forwarded-Proto', one(['https', 'http', 'gopher', 'http, https'])]);
    let connection = 'close';
    if (often(0.08)) {
      headers.push(['Upgrade', one(UPGRADES)], ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='], ['Sec-WebSocket-Version', '13']);
      connection = one(['Upgrade', 'upgrade, close', 'keep-alive, Upgrade', 'close']);
    } else if (often(0.05)) connection = `close, ${one([...IDENTITY, 'Cookie', 'X-Original-URL', 'X-Forwarded-Uri', 'Host', 'X-Forwarded-Host'])}`;
    if (often(0.3)) headers.push(['Accept', one(['text/html', 'application/json', '*/*', 'text/event-stream'])]);
    if (often(0.1)) headers.push(['Sec-Fetch-Mode', one(['navigate', 'cors', 'no-cors', 'websocket'])]);
    const method = one(METHODS);
    const body = headers.every(([name]) => name !== 'Upgrade') && /^(POST|PUT|PATCH|DELETE)$/.test(method) && often(0.5) ? 'x=1' : '';
    yield { target: target(), method, host: often(0.9) ? 'HOST' : one(HOSTS), headers, as: one(['mira', 'mira', 'mira', 'alex', 'eve', undefined, 'expired']), version: often(0.97) ? '1.1' : '1.0', body, connection };
  }
}

/**
 * `count` rows by host: { target, method, hosts, headers, as, certificate }. A request's hosts stand in its target, in one or two
 * `Host`s, in headers that name one, and in the name for which a certificate is asked.
 */
export function* hostVariants(seed, count) {
  const chance = chances(seed);
  const one = (list) => list[Math.floor(chance() * list.length)];
  const often = (share) => chance() < share;
  const host = (odd) => {
    if (often(odd / 3)) return one(ODD_HOSTS);
    return `${often(odd) ? one(ODD_LABELS) : one(LABELS)}.${often(0.1) ? 'Apps.LocalHost' : 'apps.localhost'}:PORT`;
  };
  for (let n = 0; n < count; n += 1) {
    const odd = one([0, 0, 0.1, 0.5]);
    const path = one(['/plans', '/plans', '/secret?x=//globex.apps.localhost', '/globex/plans', '/static/a', '/', '/.doorward/start?next=/plans', '//globex.apps.localhost/plans', '/a/../plans']);
    const target = often(0.7) ? path : `${one(['https', 'https', 'http', 'HTTPS'])}://${often(0.1) ? 'globex.apps.localhost:PORT@' : ''}${host(odd)}${path}`;
    const headers = [];
    if (often(0.3)) headers.push([one(['X-Forwarded-Host', 'x-forwarded-host', 'X_Forwarded_Host', 'X-Host', 'X-Original-Host', 'X-Forwarded-Server']), host(odd)]);
    if (often(0.1)) headers.push(['Forwarded', `host=${host(odd)};proto=https`]);
    if (often(0.1)) headers.push(['X-Original-URL', `https://${host(odd)}/plans`]);
    if (often(0.3)) headers.push(['Accept', one(['text/html', 'application/json'])]);
    yield {
      target, headers, method: one(['GET', 'GET', 'GET', 'HEAD', 'PUT']), hosts: often(0.95) ? [host(odd)] : one([[host(odd), host(odd)], []]),
      as: one(['mira at acme', 'mira at acme', 'mira at globex', undefined]), certificate: one(['acme', 'acme', 'globex', 'sso']),
    };
  }
}
