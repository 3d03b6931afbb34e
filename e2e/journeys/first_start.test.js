// The first minutes of an operator: a fresh `serve` prints a one-time link, and from it everything else can be made by clicks.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeBrowser, newPerson, shoot } from '../support/browser.js';
import { prepareDoorward } from '../support/doorward.js';
import { freePort, stopEverything } from '../support/processes.js';

let doorward;
let base;
before(async () => {
  const [port, gate] = [await freePort(), await freePort()];
  base = `http://localhost:${port}`;
  doorward = await prepareDoorward({
    baseUrl: base, listen: `127.0.0.1:${port}`, gateListen: `127.0.0.1:${gate}`, allow: [], app: { host: `hub.localhost:${port}` },
  });
  await doorward.serve();
});
after(async () => {
  await closeBrowser();
  await stopEverything();
});

test('the link of the first start makes the operator, who makes an organization; the link works once', async () => {
  const link = /http:\/\/localhost:\d+\/login\/first\S*/.exec(doorward.log())?.[0].replace(/["\\,]+$/, '');
  assert.ok(link, `no link was printed:\n${doorward.log()}`);
  const operator = await newPerson();
  const page = await operator.newPage();
  await page.goto(link);
  await page.getByRole('heading', { name: 'Welcome to Doorward' }).waitFor();
  await shoot(page, 'first-operator');

  // A name that pages have is refused; what was typed stays, but for the password.
  const make = page.getByRole('button', { name: 'Make the account' });
  await page.getByLabel('User name').fill('login');
  await page.getByLabel('E-mail').fill('olga@example.com');
  await page.getByLabel('Password').fill('nine slow green buses');
  await make.click();
  await page.locator('[data-error-code]').first().waitFor();
  assert.equal(await page.getByLabel('User name').inputValue(), 'login');
  assert.equal(await page.getByLabel('E-mail').inputValue(), 'olga@example.com');
  assert.equal(await page.getByLabel('Password').inputValue(), '');
  await page.getByLabel('User name').fill('olga');
  await page.getByLabel('Password').fill('nine slow green buses');
  await make.click();
  await page.getByText('olga').first().waitFor();

  await page.goto(`${base}/organizations/new`);
  await page.getByLabel('Name', { exact: true }).fill('acme');
  await page.getByRole('button', { name: /Make|Create/ }).click();
  await page.goto(`${base}/organizations/acme/settings/members`);
  await page.getByText('olga').first().waitFor();

  const second = await (await newPerson()).newPage();
  const answer = await second.goto(link);
  assert.ok(answer.status() >= 400, `the used link answered ${answer.status()}`);
  await second.locator('[data-error-code]').first().waitFor();
  await shoot(second, 'first-operator-used');
  assert.deepEqual(operator.problems, []);
});
