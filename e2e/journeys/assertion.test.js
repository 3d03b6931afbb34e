// The signed assertion as applications verify it: by jose (npm) and PyJWT (Debian), which share nothing with us but the RFCs.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { closeBrowser, newPerson } from '../support/browser.js';
import { prepareDoorward } from '../support/doorward.js';
import { freePort, stopEverything } from '../support/processes.js';

let base;
let application;
let assertion;
before(async () => {
  application = createServer((request, response) => response.end(request.headers['doorward-assertion']));
  await new Promise((resolve) => application.listen(0, '127.0.0.1', resolve));
  const [port, gate] = [await freePort(), await freePort()];
  base = `http://localhost:${port}`;
  const hub = `hub.localhost:${port}`;
  const doorward = await prepareDoorward({
    baseUrl: base, listen: `127.0.0.1:${port}`, gateListen: `127.0.0.1:${gate}`, allow: [],
    app: { host: hub, upstream: `http://127.0.0.1:${application.address().port}` },
  });
  await doorward.cli(['account', 'create', 'mira', '--email', 'mira@acme.example', '--password-stdin'], 'four calm grey whales');
  await doorward.cli(['org', 'create', 'acme', '--name', 'Acme', '--admin', 'mira']);
  await doorward.serve();

  const page = await (await newPerson()).newPage();
  await page.goto(`http://${hub}/acme/secret`);
  await page.getByLabel(/User name/).fill('mira');
  await page.getByLabel('Password').fill('four calm grey whales');
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.waitForURL(`http://${hub}/acme/secret`);
  assertion = await page.locator('body').innerText();
});
after(async () => {
  application?.close();
  await closeBrowser();
  await stopEverything();
});

const keySet = () => `${base}/.well-known/jwks.json`;

test('jose verifies the assertion, for its application alone', async () => {
  const keys = createRemoteJWKSet(new URL(keySet()));
  const expected = { issuer: base, audience: 'hub', algorithms: ['ES256'] };
  const { payload } = await jwtVerify(assertion, keys, expected);
  assert.equal(payload.preferred_username, 'mira');
  assert.equal(payload.organization, 'acme');
  assert.equal(payload.role, 'admin');
  assert.deepEqual(payload.organizations, { acme: 'admin' });
  assert.equal(payload.exp - payload.iat, 60);

  await assert.rejects(jwtVerify(assertion, keys, { ...expected, audience: 'another' }), { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED' });
  const [head, body, signature] = assertion.split('.');
  const admin = Buffer.from(JSON.stringify({ ...payload, preferred_username: 'ada' })).toString('base64url');
  await assert.rejects(jwtVerify(`${head}.${admin}.${signature}`, keys, expected), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' });
  await assert.rejects(jwtVerify(assertion, keys, { ...expected, currentDate: new Date((payload.exp + 1) * 1000) }), { code: 'ERR_JWT_EXPIRED' });
  assert.ok(body.length < 3000, 'fits in a proxy buffer of 4 KiB');
});

test('PyJWT verifies the assertion, for its application alone', () => {
  const script = `
import json, sys, jwt
token, url, issuer = sys.argv[1:]
key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token).key
print(json.dumps(jwt.decode(token, key, algorithms=["ES256"], issuer=issuer, audience="hub")))
try:
    jwt.decode(token, key, algorithms=["ES256"], issuer=issuer, audience="another")
    sys.exit("taken for another application")
except jwt.InvalidAudienceError:
    pass
`;
  const run = spawnSync('/usr/bin/python3', ['-c', script, assertion, keySet(), base], { encoding: 'utf8' });
  assert.equal(run.status, 0, run.stderr);
  assert.equal(JSON.parse(run.stdout).preferred_username, 'mira');
});
