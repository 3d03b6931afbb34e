// What strangers try at the gate, through the real proxies: tricks with paths, hosts, methods and headers. No browser needed.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask } from '../support/http.js';
import { closeAll, nameOf, openStage, TWO } from '../support/stage.js';

const SECRET = 'What Acme keeps to itself.'; // on the sample hub's private page, and nowhere else

/** Ways to write /acme/secret, or to climb to it from what is open to everybody. */
const PATHS = [
  '/acme/secret', '/ACME/secret', '/acme/SECRET', '//acme/secret', '/acme//secret', '/acme/secret/', '/./acme/secret', '/acme/./secret',
  '/acme/website/../secret', '/acme/website/..%2fsecret', '/acme/website/%2e%2e/secret', '/acme/website/%2E./secret',
  '/acme/website/%252e%252e/secret', '/acme/website/..;/secret', '/acme/website;/../secret', '/acme/website/..\\secret',
  '/acme/website/%5c..%5csecret', '/static/../acme/secret', '/static/%2e%2e/acme/secret', '/static/..%2facme%2fsecret',
  '/acme%2fsecret', '/%61cme/secret', '/acme/s%65cret', '/acme/secret%00', '/acme/website%2f..%2fsecret', '/acme/secret?x=/static/a',
  '/acme/secret#/static/a', '/acme/secret%3f', '/acme/secret%23', '/.doorward/../acme/secret', '/.doorward/%2e%2e/acme/secret',
  '/acme/%c0%ae%c0%ae/acme/secret', '/acme/secret%20', '/acme/secret/data', '/acme/website/../secret/data', '/globex/../acme/secret',
];
/** Headers that other proxies or frameworks believe, and ours. */
const FORGED = {
  'Remote-User': 'ada', 'Remote-Name': 'Ada Forged', 'Remote-Email': 'ada@acme.example', 'Doorward-Account': 'acc_forged',
  'Doorward-Organization': 'acme', 'Doorward-Role': 'admin', 'Doorward-Sso': 'complete', 'Doorward-Assertion': 'forged',
};

for (const which of TWO) {
  describe(`the gate (${nameOf(which)})`, () => {
    let stage;
    before(async () => {
      stage = await openStage(which);
    });
    after(async () => {
      await stage?.close();
    });
    const stranger = (path, options = {}) =>
      ask(stage.port, path, { ...options, headers: { Host: `hub.localhost:${stage.port}`, ...options.headers } });

    test('what is public is there', async () => {
      const answer = await stranger('/acme/website');
      assert.equal(answer.status, 200);
      assert.match(answer.body, /The site that everybody sees/);
    });

    for (const path of PATHS) {
      test(`a stranger does not reach the private page by ${path}`, async () => {
        for (const accept of ['text/html', 'application/json']) {
          const answer = await stranger(path, { headers: { Accept: accept } });
          assert.ok(!answer.body.includes(SECRET) && !answer.body.includes('read_by'), `got in: ${answer.status}`);
          assert.ok([302, 303, 400, 401, 403, 404].includes(answer.status), `answered ${answer.status}`);
        }
      });
    }

    test('v01_identity_headers_of_a_client_do_not_arrive_in_any_spelling', async () => {
      for (const spell of [(name) => name, (name) => name.replaceAll('-', '_'), (name) => name.toUpperCase(), (name) => name.replace('-', '_')]) {
        const headers = Object.fromEntries(Object.entries(FORGED).map(([name, value]) => [spell(name), value]));
        const open = await stranger('/acme/website', { headers });
        assert.equal(open.status, 200);
        assert.doesNotMatch(open.body, /admin of acme|Ada Forged|<span class="end">ada/);
        assert.match(open.body, /Sign in/);
        assert.ok(!(await stranger('/acme/secret', { headers })).body.includes(SECRET));
      }
    });

    test('v07_a_connection_header_that_names_our_headers_changes_nothing', async () => {
      const headers = { ...FORGED, Connection: `close, ${Object.keys(FORGED).join(', ')}, Cookie, X-Original-URL` };
      assert.ok(!(await stranger('/acme/secret', { headers })).body.includes(SECRET));
    });

    test('headers about another address or method do not decide', async () => {
      for (const name of ['X-Original-URL', 'X-Rewrite-URL', 'X-Forwarded-Uri', 'X-Forwarded-Prefix']) {
        const answer = await stranger('/acme/secret', { headers: { [name]: '/acme/website', Accept: 'application/json' } });
        assert.equal(answer.status, 401, name);
      }
      const host = { Host: `hub.localhost:${stage.port}`, 'X-Forwarded-Host': 'other.localhost', Forwarded: 'host=other.localhost' };
      assert.equal((await stranger('/acme/secret', { headers: { ...host, Accept: 'application/json' } })).status, 401);
      assert.equal((await stranger('/acme/secret/notes', { method: 'POST', headers: { 'X-HTTP-Method-Override': 'GET' } })).status, 401);
    });

    test('an unknown host is told nothing', async () => {
      const answer = await ask(stage.port, '/acme/secret', { headers: { Host: `other.localhost:${stage.port}` } });
      assert.ok(!answer.body.includes(SECRET));
      assert.ok(answer.status >= 400, `answered ${answer.status}`);
    });

    test('a program is told in a problem document where a person signs in', async () => {
      const answer = await stranger('/acme/secret', { headers: { Accept: 'application/json' } });
      assert.equal(answer.status, 401);
      assert.match(answer.headers['content-type'], /^application\/problem\+json/);
      const { code, sign_in_url: signIn } = JSON.parse(answer.body);
      assert.equal(code, 'account.sign_in_needed');
      assert.ok([stage.hub, stage.sso].includes(new URL(signIn).origin), signIn);
      assert.equal(answer.headers['cache-control'], 'no-store');
    });

    test('a browser is led to sign in, and the answer is not to be kept', async () => {
      const answer = await stranger('/acme/secret?page=2', { headers: { Accept: 'text/html', 'Sec-Fetch-Mode': 'navigate' } });
      assert.ok([302, 303].includes(answer.status), `answered ${answer.status}`);
      assert.equal(answer.headers['cache-control'], 'no-store');
    });

    test('upgrades other than websocket, and methods that nobody knows, are refused', async () => {
      assert.equal((await stranger('/acme/website', { headers: { Upgrade: 'h2c', Connection: 'Upgrade' } })).status, 400);
      assert.ok([400, 405, 501].includes((await stranger('/acme/website', { method: 'PROPFIND' })).status));
    });
  });
}

after(closeAll);
