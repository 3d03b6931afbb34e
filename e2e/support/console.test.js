// The Entra-shaped provider's console by itself: clicked as the guide says, it makes an application that works.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeBrowser, newPerson } from './browser.js';
import { openConsole } from './console.js';
import { stopEverything } from './processes.js';

after(async () => {
  await closeBrowser();
  await stopEverything();
});

test('an application is made by clicks, somebody signs in with it, and its secret is replaced', async () => {
  const console = await openConsole('entra');
  const page = await (await newPerson()).newPage();
  const redirectUri = 'http://localhost:9/organizations/acme/oidc/consume';
  const application = await console.register(page, redirectUri);
  assert.match(application.issuerUrl, /\/v2\.0\/\.well-known\/openid-configuration$/);
  const metadata = await (await fetch(application.issuerUrl)).json();
  await page.route(`${redirectUri}**`, (route) => route.fulfill({ body: 'back' }));
  const query = { client_id: application.clientId, redirect_uri: redirectUri, response_type: 'code', scope: 'openid email', state: 's' };
  await page.goto(`${metadata.authorization_endpoint}?${new URLSearchParams(query)}`);
  await console.signIn(page, 'mira.holt@acme.example');
  await page.waitForURL(`${redirectUri}?**`);
  assert.ok(new URL(page.url()).searchParams.get('code'));
  const secret = await console.newSecret(page, application);
  assert.notEqual(secret, application.clientSecret);
});
