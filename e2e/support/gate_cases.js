// What every way into an application answers: one table, for the built-in proxy and for each that docs/gate.md shows.
// A row: who asks for what, and what must happen. `early` names the proxies that deal with such a request by themselves: with
// these statuses, ELSEWHERE, or by asking Doorward something else, whose answer is then written out. All else is a difference.
// Invariant: whatever a row sends under a name that is not the client's contains FORGED, and no application ever sees that word.

import { tokenOf } from './token.js';

export const FORGED = 'forged';
/** Tokens of people of the stage: mira's is authorised for acme and reads alone, alex's is not authorised. */
export const TOKENS = { mira: tokenOf(4), alex: tokenOf(10) };
/** The proxy takes the request for another site of its own: neither Doorward's gate nor the application hears of it. */
export const ELSEWHERE = 'elsewhere';

// === Who asks. `people` of the stage: mira has completed acme's SSO, alex has not, eve is nobody's member.

const NAVIGATION = [['Accept', 'text/html,application/xhtml+xml']];
const BROWSER = [...NAVIGATION, ['Sec-Fetch-Mode', 'navigate'], ['Sec-Fetch-Dest', 'document']];
const FETCH = [['Accept', '*/*'], ['Sec-Fetch-Mode', 'cors'], ['Sec-Fetch-Site', 'same-origin']];
const API = [['Accept', 'application/json']];
const WEBSOCKET = [['Upgrade', 'websocket'], ['Sec-WebSocket-Version', '13'], ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==']];

// === What happens.

/** It goes on; the application sees these identity headers (what is not named is empty or missing) and this target. */
const allow = (identity = {}, seen = {}) => ({ kind: 'allow', identity, ...seen });
const MIRA = { 'remote-user': 'mira', 'remote-email': 'mira.holt@acme.example' };
const MIRA_AT_ACME = { ...MIRA, 'doorward-organization': 'acme', 'doorward-role': 'write', 'doorward-sso': 'complete' };
const MIRA_AT_GLOBEX = { ...MIRA, 'doorward-organization': 'globex', 'doorward-role': 'read' };
const ALEX = { 'remote-user': 'alex', 'remote-email': 'alex@acme.example' };
/** A browser is led to the hand-over, and from there to sign in, and comes back to `next`. */
const signIn = (next) => ({ kind: 'sign-in', next });
/** A browser is led to complete acme's SSO, and comes back to `next`. */
const completeSso = (next) => ({ kind: 'complete-sso', next });
/** A page with this code, for people. */
const page = (status, code) => ({ kind: 'page', status, code });
/** A problem document with this code; a 401 names where a person signs in. */
const problem = (status, code) => ({ kind: 'problem', status, code });

const SIGN_IN_NEEDED = problem(401, 'account.sign_in_needed');
const AMBIGUOUS = problem(400, 'gate.ambiguous_target');

const TOKEN_INVALID = problem(401, 'token.invalid');
const MIRA_BY_TOKEN = { ...MIRA_AT_ACME, 'doorward-role': 'read' };
const bearer = (token) => ['Authorization', `Bearer ${token}`];
const basic = (pair) => ['Authorization', `Basic ${Buffer.from(pair).toString('base64')}`];

/** So many headers of no meaning, all of one name. */
const manyHeaders = (number) => Array.from({ length: number }, () => ['a', '1']);

const row = (name, request, expect, early = {}) => ({ name, headers: API, method: 'GET', target: '/acme/secret', version: '1.1', ...request, expect, early });

// Whoever has the proxy drop his cookie is nobody.
const COOKIE_IS_GONE = Object.fromEntries(['traefik', 'envoy'].map((proxy) => [proxy, SIGN_IN_NEEDED]));

export const CASES = [
  // --- Decisions
  row('a public page, nobody', { target: '/', headers: BROWSER }, allow()),
  row('a public page, a member', { target: '/static/app.css', as: 'mira' }, allow(MIRA)),
  row('a public resource, nobody', { target: '/acme/website', headers: BROWSER }, allow()),
  row('a public resource, a member with SSO', { target: '/acme/website', as: 'mira' }, allow(MIRA_AT_ACME)),
  row('a public resource, a member without SSO', { target: '/acme/website', as: 'alex' }, allow({ ...ALEX, 'doorward-sso': 'missing' })),
  row('a public resource is for reading', { target: '/acme/website', method: 'POST', body: 'x=1' }, SIGN_IN_NEEDED),
  row('a private page, nobody, browser', { headers: BROWSER }, signIn('/acme/secret')),
  row('a private page, nobody, old browser', { headers: NAVIGATION }, signIn('/acme/secret')),
  row('a private page, nobody, with a query', { target: '/acme/secret?a=b&c=%2F%20d', headers: BROWSER }, signIn('/acme/secret?a=b&c=%2F%20d')),
  row('a private page, nobody, program', {}, SIGN_IN_NEEDED),
  row('a private page, a member', { as: 'mira' }, allow(MIRA_AT_ACME)),
  row('a private page, a member, in capitals', { target: '/ACME/Secret', as: 'mira' }, allow(MIRA_AT_ACME)),
  row('a private page, a member, with a query', { target: '/acme/secret?q=%41&n=https://x.example/..', as: 'mira' }, allow(MIRA_AT_ACME)),
  row('a private page, SSO is missing, browser', { as: 'alex', headers: BROWSER }, completeSso('/acme/secret')),
  row('a private page, SSO is missing, program', { as: 'alex' }, problem(401, 'sso.required')),
  row('a private page, a stranger to the organization', { as: 'eve', headers: BROWSER }, page(403, 'gate.forbidden')),
  row('a private page, a stranger to the organization, program', { as: 'eve' }, problem(403, 'gate.forbidden')),
  row('a reader reads', { target: '/globex/plans', as: 'mira' }, allow(MIRA_AT_GLOBEX)),
  row('a reader writes', { target: '/globex/plans', as: 'mira', method: 'PUT', body: '{}' }, problem(403, 'gate.forbidden')),
  row('a writer deletes', { as: 'mira', method: 'DELETE' }, allow(MIRA_AT_ACME)),
  row('a path that nobody owns, nobody', { target: '/nobody/owns' }, SIGN_IN_NEEDED),
  row('a path that nobody owns, a member', { target: '/nobody/owns', as: 'mira' }, problem(403, 'gate.forbidden')),

  // --- Methods and kinds of clients
  row('HEAD, a member', { as: 'mira', method: 'HEAD' }, allow(MIRA_AT_ACME)),
  row('HEAD, nobody, browser', { method: 'HEAD', headers: BROWSER }, signIn('/acme/secret')),
  row('HEAD, nobody, program', { method: 'HEAD' }, { ...SIGN_IN_NEEDED, bodiless: true }),
  row('a preflight, nobody', { method: 'OPTIONS', headers: [['Origin', 'https://other.example'], ['Access-Control-Request-Method', 'PUT'], ['Sec-Fetch-Mode', 'cors']] }, SIGN_IN_NEEDED),
  row('a preflight, a member', { method: 'OPTIONS', as: 'mira', headers: [['Origin', 'https://other.example'], ['Access-Control-Request-Method', 'PUT']] }, allow(MIRA_AT_ACME)),
  row('OPTIONS *', { method: 'OPTIONS', target: '*' }, AMBIGUOUS, { nginx: [400], haproxy: [400], caddy: ELSEWHERE, traefik: ELSEWHERE, envoy: [404] }),
  row('a range, a member', { as: 'mira', headers: [['Range', 'bytes=0-3']] }, allow(MIRA_AT_ACME, { header: ['range', 'bytes=0-3'] })),
  row('a fetch, nobody', { headers: FETCH }, SIGN_IN_NEEDED),
  row('a fetch that asks for a page, nobody', { headers: [['Accept', 'text/html'], ['Sec-Fetch-Mode', 'cors']] }, SIGN_IN_NEEDED),
  row('an XMLHttpRequest that asks for a page, nobody', { headers: [['Accept', 'text/html'], ['X-Requested-With', 'XMLHttpRequest']] }, SIGN_IN_NEEDED),
  row('a client that accepts nothing in particular, nobody', { headers: [] }, SIGN_IN_NEEDED),
  row('an event stream, nobody', { headers: [['Accept', 'text/event-stream'], ['Sec-Fetch-Mode', 'cors']] }, SIGN_IN_NEEDED),
  row('an event stream, a member', { target: '/acme/events', as: 'mira', headers: [['Accept', 'text/event-stream']] }, allow(MIRA_AT_ACME, { answers: /data: one/ })),
  row('a POST, a member', { as: 'mira', method: 'POST', body: 'a=1&b=2' }, allow(MIRA_AT_ACME, { body: 'a=1&b=2' })),
  row('a POST whose session has run out, form', { as: 'expired', method: 'POST', body: 'a=1', headers: [...BROWSER, ['Origin', 'http://hub.localhost']] }, page(401, 'account.sign_in_needed')),
  row('a POST whose session has run out, program', { as: 'expired', method: 'POST', body: 'a=1', headers: FETCH }, SIGN_IN_NEEDED),
  row('a PATCH of a reader whose SSO is missing: the role comes first', { as: 'alex', method: 'PATCH', body: '{}' }, problem(403, 'gate.forbidden')),
  row('an unknown method', { method: 'PROPFIND', as: 'mira' }, problem(400, 'gate.method_refused')),
  row('TRACE', { method: 'TRACE', as: 'mira' }, problem(400, 'gate.method_refused'), { nginx: [405] }),
  row('a method in small letters', { method: 'get', as: 'mira' }, problem(400, 'gate.method_refused'), { nginx: [400], envoy: [400] }),
  row('a WebSocket, a member', { target: '/acme/live', as: 'mira', headers: WEBSOCKET, connection: 'Upgrade' }, allow(MIRA_AT_ACME, { upgraded: true })),
  row('a WebSocket, nobody', { target: '/acme/live', headers: WEBSOCKET, connection: 'Upgrade' }, SIGN_IN_NEEDED),
  row('a WebSocket of a browser that asks for a page, nobody', { target: '/acme/live', headers: [...WEBSOCKET, ...NAVIGATION], connection: 'Upgrade' }, SIGN_IN_NEEDED),
  row('an upgrade to something else', { as: 'mira', headers: [['Upgrade', 'h2c'], ['HTTP2-Settings', 'AAMAAABkAARAAAAAAAIAAAAA']], connection: 'Upgrade, HTTP2-Settings' }, problem(400, 'gate.method_refused'), { traefik: [404], envoy: allow(MIRA_AT_ACME) }), // Envoy asks for no upgrade but WebSocket
  row('HTTP/1.0, a member', { as: 'mira', version: '1.0' }, allow(MIRA_AT_ACME), { envoy: [426] }),
  row('HTTP/1.0, nobody', { version: '1.0' }, SIGN_IN_NEEDED, { envoy: [426] }),

  // --- Paths
  ...[
    '/acme/website/../secret', '/acme/website/%2e%2e/secret', '/acme/website/.%2E/secret', '/acme/website/..%2fsecret', '/acme/website/..%5csecret',
    '/acme/website/%252e%252e/secret', '/acme/website/..;/secret', '/acme/website;/../secret', '//acme/secret', '/acme//secret', '/acme/./secret',
    '/static/../acme/secret', '/static/%2e%2e/acme/secret', '/static/..%2facme%2fsecret', '/acme%2fsecret', '/acme/secret%00', '/acme/secret%23', '/acme/secret%3f',
    '/acme/secret%0d%0aX: y', '/.doorward/../acme/secret', '/.doorward/%2e%2e/acme/secret', '/acme/%c0%ae%c0%ae/secret', '/acme/website/%2e', '/acme/se%2',
  ].map((target) => row(`the path ${target}`, { target, as: 'mira' }, AMBIGUOUS, earlyForPath(target))),
  row('the path /%61cme/s%65cret, nobody', { target: '/%61cme/s%65cret', headers: BROWSER }, signIn('/%61cme/s%65cret'), { traefik: signIn('/acme/secret') }),
  row('the path /acme/website;x, nobody', { target: '/acme/website;x' }, AMBIGUOUS),
  row('a path of 8 KiB and more', { target: `/acme/${'a'.repeat(8300)}`, as: 'mira' }, AMBIGUOUS, { nginx: [414] }),
  row('a fragment does not decide', { target: '/acme/secret#/static/a', as: 'nobody' }, SIGN_IN_NEEDED, { nginx: AMBIGUOUS, haproxy: [400], envoy: [400], caddy: [400], traefik: [400] }),

  // --- Hosts
  row('the host in capitals', { as: 'mira', host: 'HUB.LocalHost' }, allow(MIRA_AT_ACME)),
  row('a host that is unknown', { as: 'mira', host: 'other.localhost' }, problem(421, 'request.unknown_host'), { traefik: [404], envoy: [404], haproxy: [421], caddy: ELSEWHERE, nginx: ELSEWHERE }),
  row('two hosts', { as: 'mira', extra: [['Host', 'other.localhost']] }, problem(421, 'request.unknown_host'), { nginx: [400], traefik: [400], caddy: [400], envoy: [403], haproxy: [400] }),
  row('an absolute target, nobody', { absolute: true }, SIGN_IN_NEEDED),
  row('an absolute target, a member', { absolute: true, as: 'mira' }, allow(MIRA_AT_ACME)),
  row('an absolute target beside another Host', { absolute: true, host: 'other.localhost' }, SIGN_IN_NEEDED, { builtin: [400], haproxy: [400] }),
  row('an absolute target beside another Host, a member', { absolute: true, as: 'mira', host: 'other.localhost' }, allow(MIRA_AT_ACME), { builtin: [400], haproxy: [400] }),
  row('X-Forwarded-Host of a stranger', { extra: [['X-Forwarded-Host', 'forged.example']], headers: BROWSER }, signIn('/acme/secret')),
  row('Forwarded of a stranger', { extra: [['Forwarded', 'host=forged.example;proto=https;for=203.0.113.7']] }, SIGN_IN_NEEDED),

  // --- Headers that would decide elsewhere
  ...['X-Original-URL', 'X-Original-URI', 'X-Rewrite-URL', 'X-Forwarded-Uri', 'X-Forwarded-Prefix'].flatMap((name) => [
    row(`${name} of a stranger`, { extra: [[name, '/static/forged']] }, SIGN_IN_NEEDED),
    row(`${name} does not reach the application`, { as: 'mira', extra: [[name, '/static/forged']] }, allow(MIRA_AT_ACME)),
  ]),
  // A server that takes this off the path would serve acme's page for a public one (gunicorn, Daphne, Flask behind a prefix).
  ...['SCRIPT_NAME', 'X-Script-Name', 'Script-Name', 'Daphne-Root-Path', 'PATH_INFO'].map((name) =>
    row(`${name} does not reach the application of a public page`, { target: '/static/acme/secret', extra: [[name, '/static']] }, allow({})),
  ),
  row('what makes an application name a path to nginx does not reach it', { as: 'mira', extra: [['X-Sendfile-Type', 'X-Accel-Redirect'], ['X-Accel-Mapping', '/srv=/acme/secret']] }, allow(MIRA_AT_ACME)),
  row('hosts that override do not reach the application', { as: 'mira', extra: [['X-Host', 'forged'], ['X-Original-Host', 'forged'], ['X-HTTP-Host-Override', 'forged']] }, allow(MIRA_AT_ACME)),
  ...['X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override', 'X-Original-Method', 'X-Forwarded-Method'].map((name) =>
    row(`${name} makes no reader of a writer`, { target: '/globex/plans', as: 'mira', method: 'POST', body: 'x', extra: [[name, 'GET']] }, problem(403, 'gate.forbidden')),
  ),
  row('methods that override do not reach the application', { as: 'mira', extra: [['X-HTTP-Method-Override', 'FORGED forged'], ['X_HTTP_METHOD', 'forged'], ['x-method-override', 'forged']] }, allow(MIRA_AT_ACME)),
  // PHP's own server reads such a name as the one with dashes.
  row('names with odd signs do not reach the application', { as: 'mira', extra: [['X.HTTP.Method.Override', 'forged'], ['X-HTTP.Method-Override', 'forged'], ['X.Original.URL', '/static/forged'], ['Remote~User', 'forged']] }, allow(MIRA_AT_ACME)),
  row('X-Forwarded-Proto of a stranger', { extra: [['X-Forwarded-Proto', 'forged']] }, SIGN_IN_NEEDED),
  row('X-Forwarded-Proto doubled', { as: 'mira', extra: [['X-Forwarded-Proto', 'https'], ['X-Forwarded-Proto', 'forged']] }, allow(MIRA_AT_ACME)),
  row('X-Forwarded-For and its kin of a stranger', { as: 'mira', extra: [['X-Forwarded-For', '203.0.113.7, forged'], ['X-Real-IP', 'forged'], ['X-Forwarded-Port', 'forged'], ['Forwarded', 'for=forged']] }, allow(MIRA_AT_ACME)),
  // A server that joins what stands behind a body to the headers would read it as ours.
  row('identity headers behind the body, a member', { as: 'mira', method: 'POST', body: 'a=1', trailers: [['Doorward-Role', FORGED], ['Remote-User', FORGED]] }, allow(MIRA_AT_ACME, { body: 'a=1' }), { haproxy: allow(MIRA_AT_ACME, { body: 'a=1', trailers: 'as they came' }) }), // HAProxy before 3.2
  row('identity headers behind the body, nobody', { method: 'POST', body: 'a=1', trailers: [['Doorward-Role', FORGED]] }, SIGN_IN_NEEDED),

  // --- Many headers: a question that can't be put as a whole is no allow
  row('85 headers, nobody', { headers: [...API, ...manyHeaders(82)] }, SIGN_IN_NEEDED),
  row('85 headers, a member', { as: 'mira', headers: [...API, ...manyHeaders(81)] }, allow(MIRA_AT_ACME)),
  row('98 headers, nobody', { headers: [...API, ...manyHeaders(95)] }, SIGN_IN_NEEDED, { nginx: [431], traefik: [431], caddy: [431], haproxy: [400] }),
  row('98 headers, a member', { as: 'mira', headers: [...API, ...manyHeaders(94)] }, allow(MIRA_AT_ACME), { traefik: [431], caddy: [431], envoy: [500], haproxy: [400] }),
  row('150 headers, nobody', { headers: [...API, ...manyHeaders(147)] }, problem(431), { nginx: [503], haproxy: [400] }),
  row('150 headers, a member', { as: 'mira', headers: [...API, ...manyHeaders(146)] }, problem(431), { nginx: [503], haproxy: [400] }),

  row('User-Agent decides nothing', { extra: [['User-Agent', 'GoogleHC/1.0']] }, SIGN_IN_NEEDED),
  row('Proxy of a stranger', { as: 'mira', extra: [['Proxy', 'http://forged.example']] }, allow(MIRA_AT_ACME)),

  // --- Identity headers of a stranger (V01, V02, V07)
  ...[
    ['as they are', (name) => [[name, FORGED]]],
    ['with underscores', (name) => [[name.replaceAll('-', '_'), FORGED]]],
    ['in capitals', (name) => [[name.toUpperCase(), FORGED]]],
    ['in capitals with underscores, as CGI has them', (name) => [[name.toUpperCase().replaceAll('-', '_'), FORGED]]],
    ['with dots', (name) => [[name.replaceAll('-', '.'), FORGED]]],
    ['doubled', (name) => [[name, FORGED], [name.toLowerCase(), `${FORGED} too`]]],
  ].flatMap(([how, spell]) => {
    const extra = ['Remote-User', 'Remote-Name', 'Remote-Email', 'Remote-Groups', 'Doorward-Account', 'Doorward-Organization', 'Doorward-Role', 'Doorward-Assertion', 'Doorward-Sso'].flatMap(spell);
    return [
      row(`identity headers ${how}, nobody on a public page`, { target: '/acme/website', extra }, allow()),
      row(`identity headers ${how}, a member`, { as: 'mira', extra }, allow(MIRA_AT_ACME)),
      row(`identity headers ${how}, nobody on a private page`, { extra }, SIGN_IN_NEEDED),
    ];
  }),
  row('Connection names our headers', { as: 'mira', connection: 'close, Remote-User, Doorward-Role, doorward-account, X-Forwarded-For' }, allow(MIRA_AT_ACME), { envoy: [400] }),
  row('Connection names the cookie', { as: 'mira', connection: 'close, Cookie' }, allow(MIRA_AT_ACME, { cookie: undefined }), COOKIE_IS_GONE),
  row('Connection names what a proxy tells the gate', { connection: 'close, X-Original-URL, X-Original-Method, X-Forwarded-Uri, X-Forwarded-Method, X-Forwarded-Host' }, SIGN_IN_NEEDED, { envoy: [400] }),

  // --- Caches (V15): nobody's question whether he may keep an answer gets one
  row('a cache asks whether its copy still holds, nobody', { extra: [['If-None-Match', '*'], ['If-Modified-Since', 'Thu, 01 Jan 2037 00:00:00 GMT']] }, SIGN_IN_NEEDED),
  row('a cache asks for nothing but a copy, browser, nobody', { headers: BROWSER, extra: [['Cache-Control', 'only-if-cached, max-stale=86400'], ['If-None-Match', '"x"']] }, signIn('/acme/secret')),
  row('a page that looks like a file, nobody', { target: '/acme/secret/app.css', headers: BROWSER }, signIn('/acme/secret/app.css')),

  // --- Cookies
  row('our cookies stay here, others go on', { as: 'mira', cookies: ['theme=dark', 'OURS', 'lang=de'] }, allow(MIRA_AT_ACME, { cookie: 'theme=dark; lang=de' })),
  row('our cookie alone', { as: 'mira' }, allow(MIRA_AT_ACME, { cookie: undefined })),
  row('10 KiB of cookies, browser', { as: 'mira', headers: BROWSER, cookies: [`big=${'b'.repeat(5000)}`, 'OURS'], extra: [['Cookie', `more=${'m'.repeat(5000)}`]] }, page(400, 'gate.cookies_too_large')),
  row('10 KiB of cookies, program', { as: 'mira', cookies: [`big=${'b'.repeat(5000)}`, 'OURS'], extra: [['Cookie', `more=${'m'.repeat(5000)}`]] }, problem(400, 'gate.cookies_too_large')),
  row('our cookie doubled', { as: 'mira', cookies: ['OURS', 'OURS'] }, SIGN_IN_NEEDED),
  row('our cookie in a second Cookie header', { as: 'mira', cookies: ['theme=dark'], extra: [['Cookie', 'OURS']] }, allow(MIRA_AT_ACME, { cookie: 'theme=dark' }), { envoy: SIGN_IN_NEEDED }), // Envoy joins the two by a comma
  row('our cookie, wrong', { cookies: ['doorward-app=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'] }, SIGN_IN_NEEDED),
  row('our cookie under the name of our own host', { as: 'mira', cookies: ['doorward-session=VALUE'] }, SIGN_IN_NEEDED),
  // --- Personal access tokens, and credentials that are not ours
  row('a token', { extra: [bearer(TOKENS.mira)] }, allow(MIRA_BY_TOKEN)),
  row('a token as the password of Basic', { extra: [basic(`anybody:${TOKENS.mira}`)] }, allow(MIRA_BY_TOKEN)),
  row('a token beside the cookie of somebody else', { as: 'alex', extra: [bearer(TOKENS.mira)] }, allow(MIRA_BY_TOKEN)),
  row('a token above its ceiling', { method: 'POST', body: 'a=1', extra: [bearer(TOKENS.mira)] }, problem(403, 'gate.forbidden')),
  row('a token that is not authorised', { extra: [bearer(TOKENS.alex)] }, problem(403, 'token.sso_authorization_required')),
  row('a token that is not authorised, as a browser would ask', { headers: BROWSER, extra: [bearer(TOKENS.alex)] }, problem(403, 'token.sso_authorization_required')),
  row('a token that nobody has', { headers: BROWSER, extra: [bearer(tokenOf(77))] }, TOKEN_INVALID),
  row('a token that is mistyped, on a public page', { target: '/', extra: [bearer(`${TOKENS.mira.slice(0, -1)}!`)] }, TOKEN_INVALID),
  row('a token on a public page', { target: '/static/a', extra: [bearer(TOKENS.mira)] }, allow(MIRA)),
  row('a token on a public resource goes no further', { target: '/acme/website', extra: [basic(`:${TOKENS.alex}`)] }, allow({ ...ALEX, 'doorward-sso': 'missing' })),
  row('an application\'s own bearer, nobody', { extra: [['Authorization', 'Bearer abc.def']] }, SIGN_IN_NEEDED),
  row('an application\'s own bearer, a member', { as: 'mira', extra: [['Authorization', 'Bearer abc.def']] }, allow(MIRA_AT_ACME, { authorization: 'Bearer abc.def' })),
  row('an application\'s own Basic, on a public page', { target: '/', extra: [basic('mira:swordfish')] }, allow({}, { authorization: basic('mira:swordfish')[1] })),

  row('a broken Cookie header', { cookies: ['=;;; =x', 'doorward-app', 'a=\x80\xff'] }, SIGN_IN_NEEDED),
  row('500 cookies', { cookies: Array.from({ length: 500 }, (_, n) => `c${n}=${n}`) }, SIGN_IN_NEEDED),
  row('a cookie of 7000 bytes', { as: 'mira', cookies: [`big=${'x'.repeat(7000)}`, 'OURS'] }, allow(MIRA_AT_ACME, { cookie: `big=${'x'.repeat(7000)}` })),
  row('a cookie of 70000 bytes', { cookies: [`big=${'x'.repeat(70000)}`] }, problem(431), { nginx: [400], haproxy: [400] }),
];

// === An application with a host for each organization; Doorward's own host, sso, is among them. Without single sign-on.
// `judged`: the host that counts, where it is not acme's. `absolute`: the host that the target names.

const onHost = (label) => `${label}.apps.localhost`;
const AT_ACME = { ...MIRA, 'doorward-organization': 'acme', 'doorward-role': 'write' };
const AT_ACMES = { as: 'mira at acme', target: '/plans' };
const AT_GLOBEXS = { as: 'mira at globex', target: '/plans', host: onHost('globex'), judged: onHost('globex') };
const UNKNOWN_HOST = problem(421, 'request.unknown_host');
/** A proxy that asks about such a host passes on a 403: other statuses the gate's listener does not have. */
const REFUSED_HOST = { ...UNKNOWN_HOST, status: 403, written: 421 };
/** nginx writes the port itself, whatever the request says. */
const OTHER_PORT = { nginx: allow(AT_ACME), traefik: REFUSED_HOST, caddy: REFUSED_HOST, envoy: REFUSED_HOST, haproxy: REFUSED_HOST };
/** No proxy's configuration has such a host. */
const NOWHERE = { traefik: [404], envoy: [404], haproxy: [421], caddy: ELSEWHERE, nginx: ELSEWHERE };
/** Envoy's `*` takes several labels: Doorward refuses them. */
const DEEPER = { ...NOWHERE, envoy: REFUSED_HOST };
/** Two hosts in one request: these refuse it, the others take the target's. */
const TWO_HOSTS = { builtin: [400], haproxy: [400] };
/** A page of Doorward's own: nobody asks the gate. */
const own = (status) => ({ kind: 'own', status });

export const HOST_CASES = [
  row('a member on his organization\'s host', AT_ACMES, allow(AT_ACME)),
  row('a member on the host of another organization of his', AT_GLOBEXS, allow(MIRA_AT_GLOBEX)),
  row('a reader writes', { ...AT_GLOBEXS, method: 'PUT', body: '{}' }, problem(403, 'gate.forbidden')),
  row('the name of another organization in the path', { ...AT_ACMES, target: '/globex/plans' }, allow(AT_ACME)),
  row('a WebSocket, a member', { ...AT_ACMES, headers: WEBSOCKET, connection: 'Upgrade' }, allow(AT_ACME, { upgraded: true })),
  row('a public page, nobody', { target: '/static/app.css' }, allow()),
  row('a stranger, browser', { headers: BROWSER }, signIn('/acme/secret')),
  row('a stranger, program', {}, SIGN_IN_NEEDED),
  row('a stranger on another organization\'s host', { headers: BROWSER, host: onHost('globex'), judged: onHost('globex') }, signIn('/acme/secret')),
  row('the session of one organization\'s host on another\'s', { ...AT_GLOBEXS, as: 'mira at acme', headers: BROWSER }, signIn('/plans')),
  row('the same, program', { ...AT_GLOBEXS, as: 'mira at acme' }, SIGN_IN_NEEDED),
  row('the host of an organization that nobody has', { headers: BROWSER, as: 'mira at acme', host: onHost('umbrella'), judged: onHost('umbrella') }, signIn('/acme/secret')),
  row('the host in capitals', { ...AT_ACMES, host: 'ACME.Apps.LocalHost' }, allow(AT_ACME)),
  row('the host in capitals, a stranger', { host: 'ACME.Apps.LocalHost', headers: BROWSER }, signIn('/acme/secret')),
  row('another port', { ...AT_ACMES, port: ':1' }, UNKNOWN_HOST, OTHER_PORT),
  row('no port', { ...AT_ACMES, port: '' }, UNKNOWN_HOST, OTHER_PORT),
  ...['a.acme.apps.localhost', 'acme.globex.apps.localhost', 'a.sso.apps.localhost'].map((host) => row(`several labels: ${host}`, { ...AT_ACMES, host }, UNKNOWN_HOST, DEEPER)),
  row('several labels, below /.doorward/', { host: 'a.acme.apps.localhost', target: '/.doorward/start' }, UNKNOWN_HOST, { ...NOWHERE, envoy: UNKNOWN_HOST }),
  ...['apps.localhost', 'acmeapps.localhost', 'acme.appsxlocalhost', 'acme.apps.localhost.example', 'acme.apps.localhost.apps', 'globex'].map((host) => row(`no host of an organization: ${host}`, { ...AT_ACMES, host }, UNKNOWN_HOST, NOWHERE)),
  row('an absolute target', { ...AT_ACMES, absolute: onHost('acme') }, allow(AT_ACME)),
  row('an absolute target in capitals', { ...AT_ACMES, absolute: 'ACME.apps.localhost', host: 'ACME.apps.localhost' }, allow(AT_ACME)),
  row('an absolute target beside another organization\'s Host', { ...AT_ACMES, absolute: onHost('acme'), host: onHost('globex') }, allow(AT_ACME), TWO_HOSTS),
  row('another organization\'s absolute target beside Host', { ...AT_GLOBEXS, as: 'mira at acme', absolute: onHost('globex'), host: onHost('acme') }, SIGN_IN_NEEDED, TWO_HOSTS),
  row('the same, with that one\'s session', { ...AT_GLOBEXS, absolute: onHost('globex'), host: onHost('acme') }, allow(MIRA_AT_GLOBEX), TWO_HOSTS),
  row('an absolute target on the bare suffix', { ...AT_ACMES, absolute: 'apps.localhost' }, UNKNOWN_HOST, { ...NOWHERE, ...TWO_HOSTS }),
  row('two hosts', { ...AT_ACMES, extra: [['Host', `${onHost('globex')}:PORT`]] }, UNKNOWN_HOST, { nginx: [400], traefik: [400], caddy: [400], envoy: [403], haproxy: [400] }),
  row('the certificate of another organization is asked for', { ...AT_ACMES, certificate: onHost('globex') }, allow(AT_ACME)),
  row('X-Forwarded-Host of a member', { ...AT_ACMES, extra: [['X-Forwarded-Host', `${onHost('globex')}:PORT`], ['X_Forwarded_Host', FORGED], ['Forwarded', `host=${FORGED}`]] }, allow(AT_ACME)),
  row('X-Forwarded-Host of a stranger', { headers: BROWSER, extra: [['X-Forwarded-Host', `${onHost('globex')}:PORT`]] }, signIn('/acme/secret')),
  row('Doorward\'s own host is no organization\'s', { ...AT_ACMES, host: onHost('sso'), target: '/login', headers: BROWSER }, own(200)),
  row('Doorward\'s own host has no page of the application\'s', { ...AT_ACMES, host: onHost('sso'), headers: BROWSER }, own(404)),
  row('Doorward\'s own host in capitals', { ...AT_ACMES, host: 'SSO.Apps.LocalHost', target: '/login', headers: BROWSER }, own(200)),
  row('Doorward\'s own host in an absolute target', { ...AT_ACMES, absolute: onHost('sso'), target: '/login', headers: BROWSER }, own(200), TWO_HOSTS),
  row('no hand-over begins on Doorward\'s own host', { host: onHost('sso'), target: '/.doorward/start?next=/', headers: BROWSER }, own(404)),
];

/** What proxies refuse by themselves. */
function earlyForPath(target) {
  const early = {};
  if (/%00/.test(target)) Object.assign(early, { nginx: [400] });
  if (/%2$/.test(target)) Object.assign(early, { nginx: [400], traefik: [400], caddy: [400] });
  if (/ /.test(target)) Object.assign(early, { builtin: [400], nginx: [400], traefik: [400], caddy: [400], envoy: [400], haproxy: [400] });
  return early;
}
