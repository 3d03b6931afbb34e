// The banner of the built-in proxy, in Chromium: where single sign-on is optional and missing, over pages that have a layout, scripts
// and a policy of their own, and must keep them.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { closeBrowser, newPerson, shoot } from '../support/browser.js';
import { openConsole } from '../support/console.js';
import { prepareDoorward } from '../support/doorward.js';
import { judgePage } from '../support/page_checks.js';
import { allLogs, freePort, stopEverything } from '../support/processes.js';
import { password } from '../support/stage.js';
import { fillSignIn, goesOnToProvider } from '../support/steps.js';

const PAGES = {
  // A grid from edge to edge, as applications are laid out; a script in an old style; a script and a style that the policy admits.
  '/acme/plans': {
    headers: { 'Content-Security-Policy': "default-src 'none'; style-src 'self' 'nonce-own'; script-src 'nonce-own'; form-action 'self'" },
    html: `<!DOCTYPE html><html lang="en"><head><title>Plans</title><base href="http://elsewhere.localhost:1/">
<script nonce="own"><!--
var early = '<script></scr' + 'ipt> <body>'; var counted = "<script></script>";
//--></script>
<style nonce="own">body { margin: 0; height: 100vh; display: grid; grid-template: 4rem 1fr / 12rem 1fr; color: #222; background: #fff; } header { grid-column: 1 / -1; background: #dde; }
aside, p, a, button { font: italic 3rem serif; color: #fff; background: #c00; }
@media (max-width: 40rem) { body { grid-template: 4rem 1fr / 5rem 1fr; } }</style></head>
<body><header><h1>Plans</h1></header><nav aria-label="Rooms">Rooms</nav><main><div id="told">no script ran</div></main>
<script nonce="own">document.getElementById('told').textContent = 'Scripts ran: ' + (counted.length + early.length);</script></body></html>`,
  },
  // Sends no referrer, so its forms send no origin.
  '/acme/quiet': {
    headers: { 'Referrer-Policy': 'no-referrer' },
    html: '<!DOCTYPE html><html lang="en"><title>Quiet</title><main><h1>Quiet</h1></main></html>',
  },
  // Admits nothing at all.
  '/acme/strict': {
    headers: { 'Content-Security-Policy': "default-src 'none'" },
    html: '<!DOCTYPE html><html lang="en"><title>Strict</title><body><main><h1>Strict</h1></main></body></html>',
  },
};

let application;
let doorward;
let provider;
let hub;
const people = [];

before(async () => {
  application = createServer((request, response) => {
    const { headers, html } = PAGES[request.url.split('?')[0]] ?? { headers: {}, html: '' };
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', ETag: '"1"', 'Cache-Control': 'max-age=3600', ...headers });
    response.end(html);
  });
  await new Promise((resolve) => application.listen(0, '127.0.0.1', resolve));
  provider = await openConsole('oidc-provider');
  const port = await freePort();
  const sso = `http://localhost:${port}`;
  hub = `http://hub.localhost:${port}`;
  doorward = await prepareDoorward({
    baseUrl: sso,
    listen: `127.0.0.1:${port}`,
    gateListen: `127.0.0.1:${await freePort()}`,
    allow: [new URL(provider.address).host],
    app: { host: new URL(hub).host, upstream: `http://127.0.0.1:${application.address().port}`, banner: 'on' },
  });
  for (const [name, address] of [['ada', 'ada@acme.example'], ['mira', 'mira.holt@acme.example']]) {
    await doorward.cli(['account', 'create', name, '--email', address, '--password-stdin'], password(name));
  }
  await doorward.cli(['org', 'create', 'acme', '--name', 'Acme', '--admin', 'ada']);
  await doorward.cli(['org', 'member', 'set', 'acme', 'mira', '--role', 'read']);
  const { clientId, clientSecret, issuerUrl } = await provider.register(undefined, `${sso}/organizations/acme/oidc/consume`);
  await doorward.cli(['sso', 'set', 'acme', '--issuer-url', issuerUrl, '--client-id', clientId, '--client-secret-stdin'], clientSecret);
  await doorward.cli(['sso', 'enable', 'acme', '--untested', '--enforcement', 'optional']);
  await doorward.serve();
});

after(async () => {
  await Promise.all(people.map((context) => context.close()));
  application?.close();
  await provider?.stop();
  await closeBrowser();
  await stopEverything();
});

/** A journey, with what the programs and the browser said when it fails. */
function journey(name, play) {
  test(name, { timeout: 120_000 }, async () => {
    const context = await newPerson();
    people.push(context);
    const page = await context.newPage();
    try {
      await play(page, context);
      assert.deepEqual(context.problems, [], 'what the browser reported');
    } catch (error) {
      await shoot(page, `failed-${name}`).catch(() => {});
      error.message += `\n${page.url()}\n${allLogs().slice(-4000)}`;
      throw error;
    }
  });
}

/** Opens a page of the application as mira, who signs in on the way. */
async function opens(page, path) {
  await page.goto(`${hub}${path}`);
  await fillSignIn(page, 'mira');
  await page.waitForURL(`${hub}${path}`);
}

const banner = (page) => page.getByRole('complementary', { name: 'Single sign-on' });
const notNow = (page) => banner(page).getByRole('button', { name: 'Not now' });
const place = (page, name) => page.getByRole('heading', { name }).boundingBox();

journey('m3_the_banner_lies_over_a_page_and_leaves_its_scripts_its_policy_and_its_layout_alone', async (page, context) => {
  await opens(page, '/acme/plans');
  await page.getByText('Scripts ran: 41').waitFor();
  assert.equal(await banner(page).locator('p').innerText(), 'acme asks its members to complete single sign-on.');
  const style = await banner(page).evaluate((aside) => [getComputedStyle(aside).position, getComputedStyle(aside.querySelector('a')).fontStyle]);
  assert.deepEqual(style, ['fixed', 'normal'], "its own style sheet, and none of the page's");
  const before = await place(page, 'Plans');
  await judgePage(page, 'banner');

  // By the keyboard alone: the first thing of the page.
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Complete single sign-on');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await banner(page).waitFor({ state: 'detached' });
  assert.equal(page.url(), `${hub}/acme/plans`);
  assert.deepEqual(await place(page, 'Plans'), before, 'nothing moved');
  await shoot(page, 'banner-dismissed');

  // Gone for the session, on every page, in every tab, past the cache and back.
  const tab = await context.newPage();
  await tab.goto(`${hub}/acme/quiet`);
  assert.equal(await banner(tab).count(), 0);
  await page.goto(`${hub}/acme/plans`);
  await page.reload();
  assert.equal(await banner(page).count(), 0);

  // A new session is asked again, on a page that the browser has not kept yet.
  await page.goto(`${hub}/.doorward/sign-out`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL((url) => url.pathname === '/login');
  await opens(page, '/acme/quiet?again');
  await banner(page).waitFor();
});

journey('m3_the_banners_link_leads_through_single_sign_on_and_back_to_the_page_without_it', async (page) => {
  await opens(page, '/acme/plans');
  await banner(page).getByRole('link', { name: 'Complete single sign-on' }).click();
  await goesOnToProvider(page, { console: provider });
  await provider.signIn(page, 'mira.holt@acme.example');
  await page.waitForURL(`${hub}/acme/plans`);
  await page.getByText('Scripts ran').waitFor();
  assert.equal(await banner(page).count(), 0);
});

journey('m3_a_page_that_sends_no_referrer_has_a_banner_that_can_be_dismissed', async (page) => {
  await opens(page, '/acme/quiet');
  await notNow(page).click();
  await banner(page).waitFor({ state: 'detached' });
  assert.equal(page.url(), `${hub}/acme/quiet`);
});

journey('m3_where_a_pages_policy_admits_no_style_the_banner_is_plain_and_still_asks', async (page, context) => {
  await opens(page, '/acme/strict');
  await banner(page).getByRole('link', { name: 'Complete single sign-on' }).waitFor();
  assert.equal(await banner(page).evaluate((aside) => getComputedStyle(aside).position), 'static');
  await shoot(page, 'banner-strict');
  // The browser tells the page's developer that the style sheet was refused, and nothing else.
  assert.ok(context.problems.length > 0 && context.problems.every((problem) => problem.includes('banner.css')), context.problems.join('\n'));
  context.problems.length = 0;
});
