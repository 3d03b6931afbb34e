// What every page must be like: nothing for axe to find, light and dark, at 320 px, light in weight, on its own, without JavaScript.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { judgePage } from '../support/page_checks.js';
import { closeAll, openStage, password, TWO } from '../support/stage.js';
import { connectAndTest, enable, fillConnection, openSettings, PRIVATE, redirectionUri, signedIn, updateAndTest } from '../support/steps.js';

const BYTES_MAX = 60 * 1024;
const [which] = TWO;

/** Every page there is: who looks at it, and where. `host` is the application's for pages that appear there. */
const PAGES = [
  { name: 'sign in', path: '/login' },
  { name: 'not found', path: '/nothing-here' },
  { name: 'sign in, refused', path: '/login', act: refusedSignIn },
  { name: 'home', who: 'mira', path: '/' },
  { name: 'account', who: 'mira', path: '/settings/account' },
  { name: 'account, to be deleted', who: 'mira', path: '/settings/account/delete' },
  { name: 'access tokens', who: 'mira', path: '/settings/tokens' },
  { name: 'access token, new', who: 'mira', path: '/settings/tokens/new' },
  { name: 'access tokens of an organization', who: 'ada', path: '/organizations/acme/settings/tokens' },
  { name: 'new organization', who: 'ada', path: '/organizations/new' },
  { name: 'organization settings', who: 'ada', path: '/organizations/acme/settings' },
  { name: 'members', who: 'ada', path: '/organizations/acme/settings/members' },
  { name: 'sso, live', who: 'ada', path: '/organizations/acme/settings/sso' },
  { name: 'sso, tested', who: 'ben', path: '/organizations/globex/settings/sso' },
  { name: 'sso, not set up', who: 'ada', path: '/organizations/initech/settings/sso' },
  { name: 'sso, refused', who: 'ada', path: '/organizations/initech/settings/sso', act: refusedSettings },
  { name: 'sso users', who: 'ada', path: '/organizations/acme/settings/sso/users' },
  { name: 'audit log', who: 'ada', path: '/organizations/acme/settings/audit-log' },
  { name: 'complete sso', who: 'mira', path: '/', host: 'hub', act: sentByAnotherSite },
  { name: 'callback, nonsense', who: 'mira', path: '/organizations/acme/oidc/consume?state=x&code=y' },
  { name: 'callback, refused', who: 'mira', path: '/organizations/acme/oidc/consume?state=x&error=access_denied' },
  { name: 'not a member', who: 'eve', path: PRIVATE, host: 'hub' },
];

let stage;
const visitors = new Map();

before(async () => {
  stage = await openStage(which);
  await stage.doorward.cli(['org', 'create', 'initech', '--name', 'Initech', '--admin', 'ada']);
  const admin = await signedIn(stage, 'ada');
  await connectAndTest(admin, stage);
  await enable(admin);
  visitors.set('ada', admin.context());
  for (const name of ['mira', 'eve', 'ben']) visitors.set(name, (await signedIn(stage, name)).context());
  visitors.set(undefined, await stage.person());
});
after(async () => {
  await stage?.close();
  await closeAll();
});

for (const page of PAGES) {
  test(`page "${page.name}": axe finds nothing, light and dark, and 320 px need no sideways scrolling`, async () => {
    const tab = await visitors.get(page.who).newPage();
    try {
      const weight = await open(tab, page);
      await judgePage(tab, page.name);
      assert.deepEqual(weight.foreign, [], 'requests to other hosts');
      assert.ok(weight.bytes <= BYTES_MAX, `${weight.bytes} bytes`);
      assert.deepEqual(weight.inline, [], 'inline script or style');
    } finally {
      await tab.close();
    }
  });
}

test('the guide works with JavaScript off', async () => {
  const page = await signedIn(stage, 'ada', { javaScriptEnabled: false });
  await openSettings(page, stage, 'initech');
  await fillConnection(page, await stage.console.register(page, await redirectionUri(page)));
  await updateAndTest(page);
  await stage.console.signIn(page, 'ada@acme.example');
  await enable(page);
});

test('the whole set-up can be done with the keyboard alone', async () => {
  const page = await (await stage.person()).newPage();
  await page.goto(`${stage.sso}/login`);
  await tabTo(page, /user name/i);
  await page.keyboard.type('ada');
  await tabTo(page, /^Password$/);
  await page.keyboard.type(password('ada'));
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => !url.pathname.endsWith('/login'));
  await page.goto(`${stage.sso}/organizations/acme/settings/sso`);
  for (const field of ['Client ID', 'Client secret', 'Issuer URL', 'Update and Test OIDC configuration', 'Disable']) await tabTo(page, field);
});

/** Opens a page and weighs everything that it loads, uncompressed pages and all. */
async function open(tab, { path, host, act }) {
  const origin = host === 'hub' ? stage.hub : stage.sso;
  const answers = [];
  tab.on('response', (answer) => answers.push(answer));
  await tab.goto(`${origin}${path}`);
  await act?.(tab);
  const kept = act ? answers.slice(answers.findLastIndex((answer) => answer.request().isNavigationRequest())) : answers;
  const bodies = await Promise.all(kept.map((answer) => answer.body().catch(() => Buffer.alloc(0))));
  return {
    bytes: bodies.reduce((sum, body) => sum + body.length, 0),
    foreign: answers.map((answer) => answer.url()).filter((url) => ![stage.sso, stage.hub].includes(new URL(url).origin)),
    inline: await tab.locator('script:not([src]), style, [style]').evaluateAll((elements) => elements.map((element) => element.outerHTML)),
  };
}

/** Typed, the address goes on to the provider at once; sent by another site, a page says first whose it is. */
async function sentByAnotherSite(tab) {
  await tab.evaluate((address) => location.assign(address), `${stage.sso}/organizations/acme/sso`);
  await tab.locator('body[data-page="sso-start"]').waitFor();
}

async function refusedSignIn(tab) {
  await tab.getByLabel(/user name/i).fill('ada');
  await tab.getByLabel('Password', { exact: true }).fill('not the password');
  await tab.getByRole('button', { name: 'Sign in' }).click();
  await tab.getByRole('alert').first().waitFor();
}

async function refusedSettings(tab) {
  await fillConnection(tab, { clientId: 'a', clientSecret: 'b', issuerUrl: 'nothing of the kind' });
  await updateAndTest(tab);
  await tab.getByRole('alert').first().waitFor();
}

/** Presses Tab until the element with that accessible name has the focus. */
async function tabTo(page, name) {
  const exact = typeof name === 'string';
  const target = page.locator('input').and(page.getByLabel(name, { exact })).or(page.getByRole('button', { name, exact }));
  for (let presses = 0; presses < 80; presses += 1) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`Tab never reaches ${name}`);
}
