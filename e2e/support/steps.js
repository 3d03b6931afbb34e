// What people do on Doorward's pages, one function a step, found by the words and roles that people and screen readers find.
// Goes in: a page and the stage. Comes out: the same page, further on. A step waits for what it promises, never for time.
// Never here: addresses typed where a person would click, except to open a page.
import assert from 'node:assert/strict';
import { password } from './stage.js';

export const PRIVATE = '/acme/secret';
export const PUBLIC = '/acme/website';
export const OTHER = '/globex/plans';
const UPDATE_AND_TEST = 'Update and Test OIDC configuration';

/** Opens the sign-in page and signs in to the account. */
export async function signIn(page, stage, name) {
  await page.goto(`${stage.sso}/login`);
  await fillSignIn(page, name);
}

/** Fills in the sign-in page that is open. */
export async function fillSignIn(page, name) {
  await page.getByLabel(/user name/i).fill(name);
  await page.getByLabel('Password', { exact: true }).fill(password(name));
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** A person at a fresh browser, signed in to his account. */
export async function signedIn(stage, name, options) {
  const page = await (await stage.person(options)).newPage();
  await signIn(page, stage, name);
  await page.waitForURL((url) => !url.pathname.endsWith('/login'));
  return page;
}

export async function openSettings(page, stage, organization = 'acme') {
  await page.goto(`${stage.sso}/organizations/${organization}/settings/sso`);
  await page.getByLabel('Redirection URI').waitFor();
}

export function redirectionUri(page) {
  return page.getByLabel('Redirection URI').inputValue();
}

/** Fills in the form. A field that is not named stays as it is. */
export async function fillConnection(page, { clientId, clientSecret, issuerUrl }) {
  if (clientId !== undefined) await page.getByLabel('Client ID', { exact: true }).fill(clientId);
  if (clientSecret !== undefined) await page.getByLabel('Client secret', { exact: true }).fill(clientSecret);
  if (issuerUrl !== undefined) await page.getByLabel('Issuer URL', { exact: true }).fill(issuerUrl);
}

export async function updateAndTest(page) {
  await page.getByRole('button', { name: UPDATE_AND_TEST }).click();
}

/** Steps 1 to 3 of the guide: from the settings page through the provider and back, with the green check.
 * `remembered`: this browser signed in at the provider before. */
export async function connectAndTest(page, stage, { organization = 'acme', address = 'ada@acme.example', remembered = false } = {}) {
  await openSettings(page, stage, organization);
  const application = await stage.console.register(await page.context().newPage(), await redirectionUri(page));
  await fillConnection(page, application);
  await updateAndTest(page);
  await (remembered ? stage.console.signInAgain : stage.console.signIn).call(stage.console, page, address);
  await greenCheck(page).waitFor();
  return application;
}

/** Step 4. Returns the recovery codes that were shown; none where the organization had some. */
export async function enable(page, { enforcement = 'enforced', onCodes } = {}) {
  if (enforcement === 'optional') await page.getByLabel(/optional/i).check();
  await page.getByRole('button', { name: 'Enable', exact: true }).click();
  // The first time, recovery codes are shown, once.
  const kept = page.getByRole('link', { name: 'I have kept them' });
  const disable = page.getByRole('button', { name: 'Disable', exact: true });
  await kept.or(disable).first().waitFor();
  let codes = [];
  if (await kept.isVisible()) {
    await onCodes?.(page);
    codes = await page.locator('[data-codes] code').allInnerTexts();
    await kept.click();
  }
  await disable.waitFor();
  return codes;
}

/** The whole guide, for journeys that begin after it. Returns the admin's page and the application at the provider. */
export async function protectedOrganization(stage, options = {}) {
  const admin = await signedIn(stage, 'ada');
  const application = await connectAndTest(admin, stage, options);
  const codes = await enable(admin, options);
  return { admin, application, codes };
}

/** The mark in the protocol selector which attests that the settings shown were tested. */
export function greenCheck(page) {
  return page.getByRole('region', { name: 'Protocol' }).getByText('Test passed');
}

/** Who the application thinks this is, as its header says: "mira · write of acme"; a link to sign in for nobody. */
export function whoAmI(page) {
  return page.locator('header .end').innerText();
}

/** Waits until the browser shows a page of the application. */
export async function arrivesAt(page, stage, path) {
  await page.waitForURL(`${stage.hub}${path}`);
}

/** Waits until the browser is at the provider. */
export async function isAtProvider(page, stage) {
  await page.waitForURL((url) => url.origin === new URL(stage.console.address).origin);
}

/**
 * Goes on to the provider, for somebody whom it is going to ask who he is. Where another site sent the browser, a page says
 * first whose single sign-on it is and why.
 */
export async function goesOnToProvider(page, stage) {
  const go = ssoStartButton(page);
  await Promise.any([isAtProvider(page, stage), go.waitFor()]);
  if (await go.isVisible()) await go.click();
  await isAtProvider(page, stage);
}

/** The same, for somebody whom the provider may let straight through, from a page that is loaded. */
export async function goesOn(page) {
  if (await ssoStartButton(page).isVisible()) await ssoStartButton(page).click();
}

function ssoStartButton(page) {
  return page.locator('body[data-page="sso-start"]').getByRole('button', { name: /^Continue to / });
}

/** Asks as a program would, in the page's own browser: with its cookies, without following redirects. */
export function fetchFrom(page, path, options = {}) {
  return page.evaluate(
    async ([target, init]) => {
      const answer = await fetch(target, { redirect: 'manual', ...init });
      return { status: answer.status, type: answer.headers.get('content-type'), text: await answer.text() };
    },
    [path, options],
  );
}

/** Presses the button and waits until Doorward has answered with its own page again. */
export async function isRefused(page) {
  const [answer] = await Promise.all([page.waitForNavigation(), updateAndTest(page)]);
  await page.locator('[role="alert"], [data-test="failed"]').first().waitFor();
  return answer.status();
}

/** Waits until the page shows these words. */
export async function reads(page, words) {
  await page.getByText(words).first().waitFor();
}

/** Asserts that the page doesn't show a button of that name. */
export async function hasNoButton(page, name) {
  assert.equal(await page.getByRole('button', { name, exact: true }).count(), 0, `a button "${name}" is shown`);
}
