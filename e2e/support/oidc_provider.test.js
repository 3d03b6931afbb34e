// The certified provider by itself, signed in to by hand: so that a red journey means Doorward and not its stage.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { closeBrowser, newPerson } from './browser.js';
import { startOidcProvider } from './oidc_provider.js';

const REDIRECT_URI = 'http://localhost:9/organizations/acme/oidc/consume';
let provider;

before(async () => {
  provider = await startOidcProvider();
});
after(async () => {
  await closeBrowser();
  await provider.stop();
  assert.deepEqual(provider.problems, []);
});

for (const method of ['client_secret_post', 'client_secret_basic']) {
  test(`a person signs in and the code is redeemed with ${method}`, async () => {
    const client = provider.register(REDIRECT_URI, { method });
    const { code, verifier } = await signIn(client, (page) => clickSignIn(page, 'mira.holt@acme.example'));
    const answer = await redeem(client, method, code, verifier);
    assert.equal(answer.token_type, 'Bearer');
    const claims = JSON.parse(Buffer.from(answer.id_token.split('.')[1], 'base64url'));
    assert.deepEqual(
      [claims.iss, claims.aud, claims.sub, claims.email, claims.nonce],
      [provider.issuer, client.clientId, 'directory-2', 'mira.holt@acme.example', 'n'],
    );
    assert.match(answer.id_token, /^eyJhbGciOiJSUzI1Ni/);
  });
}

test('a code is refused without its PKCE verifier, and once its secret was replaced', async () => {
  const client = provider.register(REDIRECT_URI);
  const { code } = await signIn(client, (page) => clickSignIn(page, 'ada@acme.example'));
  assert.equal((await redeem(client, 'client_secret_post', code, 'x'.repeat(43))).error, 'invalid_grant');
  provider.replaceSecret(client.clientId);
  assert.equal((await redeem(client, 'client_secret_post', code, 'x'.repeat(43))).error, 'invalid_client');
});

test('cancelling sends the browser back with access_denied', async () => {
  const client = provider.register(REDIRECT_URI);
  const { error } = await signIn(client, (page) => page.getByRole('button', { name: 'Cancel' }).click());
  assert.equal(error, 'access_denied');
});

async function clickSignIn(page, name) {
  await page.getByLabel('Name at the provider').fill(name);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

async function signIn(client, act) {
  const person = await newPerson();
  const page = await person.newPage();
  const verifier = randomBytes(32).toString('base64url');
  const query = new URLSearchParams({
    client_id: client.clientId,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    scope: 'openid profile email',
    state: 's',
    nonce: 'n',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  });
  const back = new Promise((resolve) => page.route(`${REDIRECT_URI}**`, (route) => {
    resolve(route.request().url());
    return route.fulfill({ body: 'back' });
  }));
  await page.goto(`${provider.issuer}/auth?${query}`);
  await act(page);
  const answer = Object.fromEntries(new URL(await back).searchParams);
  await person.close();
  return { ...answer, verifier };
}

async function redeem({ clientId, clientSecret }, method, code, code_verifier) {
  const form = new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri: REDIRECT_URI, code_verifier });
  const headers = {};
  if (method === 'client_secret_basic') headers.authorization = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`;
  else {
    form.set('client_id', clientId);
    form.set('client_secret', clientSecret);
  }
  return (await fetch(`${provider.issuer}/token`, { method: 'POST', body: form, headers })).json();
}
