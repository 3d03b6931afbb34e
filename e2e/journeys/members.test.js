// M1 to M6 of the model system, each as a journey of its own, in two combinations that differ in everything.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeAll, journey, TWO } from '../support/stage.js';
import {
  arrivesAt, connectAndTest, enable, fetchFrom, fillSignIn, goesOn, goesOnToProvider, openSettings, OTHER, PRIVATE, protectedOrganization, PUBLIC, reads, signedIn,
  signIn, whoAmI,
} from '../support/steps.js';

const MIRA = 'mira.holt@acme.example';
after(closeAll);

for (const which of TWO) {
  journey(test, 'm1_the_account_first_then_single_sign_on_and_neither_is_asked_twice', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await (await stage.person()).newPage();
    await page.goto(`${stage.hub}${PRIVATE}`);
    await fillSignIn(page, 'mira');
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await arrivesAt(page, stage, PRIVATE);
    await page.goto(`${stage.hub}/acme`);
    await arrivesAt(page, stage, '/acme');
    await reads(page, 'You see this page as a member: write.');
  });

  journey(test, 'm1_the_home_page_lists_the_organizations_and_asks_for_single_sign_on_after_signing_in', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await (await stage.person()).newPage();
    await signIn(page, stage, 'mira');
    await reads(page, 'Acme');
    await reads(page, 'Globex');
    await page.getByRole('link', { name: 'Complete SSO for Acme' }).first().click();
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await page.waitForURL((url) => url.origin === stage.sso);
    await page.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(page, stage, PRIVATE);
  });

  journey(test, 'm2_without_single_sign_on_a_program_gets_401_with_a_problem_document_and_starts_no_attempt', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await signedInAtTheHub(stage, 'mira');
    await page.goto(`${stage.hub}${PUBLIC}`);
    for (const options of [{}, { method: 'POST', body: 'x' }, { headers: { accept: 'application/json' } }]) {
      const answer = await fetchFrom(page, PRIVATE, options);
      assert.equal(answer.status, 401);
      assert.match(answer.type, /^application\/problem\+json/);
      const problem = JSON.parse(answer.text);
      assert.match(problem.code, /^sso\./);
      assert.ok([stage.hub, stage.sso].includes(new URL(problem.sign_in_url).origin), problem.sign_in_url);
    }
    assert.equal(await hears(page, '/acme/secret/socket'), undefined);
    page.context().problems.length = 0; // Chromium writes the refused WebSocket into the console
    assert.equal((await stage.doorward.sql('SELECT COUNT(*) FROM attempt')).trim(), '0');

    await page.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await arrivesAt(page, stage, PRIVATE);
    assert.equal(JSON.parse((await fetchFrom(page, `${PRIVATE}/data`)).text).role, 'write');
    assert.equal(await hears(page, '/acme/secret/socket'), 'acme/secret heard: hello');
    await page.getByRole('button', { name: 'Stream' }).click();
    await reads(page, 'acme/secret: line 2');
  });

  journey(test, 'm3_optional_single_sign_on_may_be_skipped_and_the_application_is_told', which, async (stage) => {
    await protectedOrganization(stage, { enforcement: 'optional' });
    const page = await signedIn(stage, 'mira');
    await page.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(page, stage, PRIVATE);
    assert.equal(await whoAmI(page), 'mira · write of acme');
    const banner = page.getByRole('link', { name: 'Complete single sign-on for acme' });
    await banner.click();
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await page.waitForURL((url) => url.origin !== stage.console.address);
    await page.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(page, stage, PRIVATE);
    assert.equal(await banner.count(), 0);
  });

  journey(test, 'm4_public_content_stays_open_to_everyone_and_says_nothing_about_a_member_without_single_sign_on', which, async (stage) => {
    await protectedOrganization(stage);
    const stranger = await (await stage.person()).newPage();
    await stranger.goto(`${stage.hub}${PUBLIC}`);
    await arrivesAt(stranger, stage, PUBLIC);
    assert.equal(await whoAmI(stranger), 'Sign in');
    const member = await signedInAtTheHub(stage, 'mira');
    await member.goto(`${stage.hub}${PUBLIC}`);
    await arrivesAt(member, stage, PUBLIC);
    assert.equal(await whoAmI(member), 'mira', 'role and organization are empty before single sign-on');
  });

  journey(
    test,
    'm5_single_sign_on_of_two_organizations_lives_side_by_side_and_each_is_for_itself',
    which,
    async (stage) => {
      const { admin } = await protectedOrganization(stage);
      const page = await signedIn(stage, 'mira');
      await page.goto(`${stage.hub}${OTHER}`);
      await arrivesAt(page, stage, OTHER);
      await openSettings(admin, stage, 'globex');
      // The provider still knows the admin from the first organization.
      await connectAndTest(admin, stage, { organization: 'globex', remembered: true });
      await enable(admin);
      await page.goto(`${stage.hub}${PRIVATE}`);
      await goesOnToProvider(page, stage);
      await stage.console.signIn(page, MIRA);
      await arrivesAt(page, stage, PRIVATE);
      // Acme's single sign-on opened nothing of Globex.
      assert.equal((await fetchFrom(page, OTHER)).status, 401);
      await page.goto(`${stage.hub}${OTHER}`);
      await goesOn(page);
      await stage.console.signInAgain(page, MIRA);
      await arrivesAt(page, stage, OTHER);
      await page.goto(`${stage.hub}${PRIVATE}`);
      await arrivesAt(page, stage, PRIVATE);
    },
    { roles: { ada: { globex: 'admin' } } },
  );

  journey(test, 'm6_a_session_lasts_as_long_as_the_time_out_and_then_the_member_comes_back_to_where_he_was', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await signedIn(stage, 'mira');
    await page.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await arrivesAt(page, stage, PRIVATE);
    await daysPass(stage, 6);
    await page.goto(`${stage.hub}${PRIVATE}?day=6`);
    await arrivesAt(page, stage, `${PRIVATE}?day=6`);
    await daysPass(stage, 2);
    assert.equal(await refusedWithinASecond(page), 401);
    await page.goto(`${stage.hub}${PRIVATE}?day=8`);
    await goesOn(page);
    await stage.console.signInAgain(page, MIRA);
    await arrivesAt(page, stage, `${PRIVATE}?day=8`);
  });

  journey(test, 'm6_a_session_ends_at_once_when_the_member_is_removed', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await signedIn(stage, 'mira');
    await page.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await arrivesAt(page, stage, PRIVATE);
    await stage.doorward.cli(['org', 'member', 'set', 'acme', 'mira', '--role', 'no_access']);
    assert.equal(await refusedWithinASecond(page), 403);
  });
}

/** Somebody whom the application knows already: he was at another organization's page. */
async function signedInAtTheHub(stage, name) {
  const page = await signedIn(stage, name);
  await page.goto(`${stage.hub}${OTHER}`);
  await arrivesAt(page, stage, OTHER);
  return page;
}

/** Says hello over a WebSocket and returns the answer; undefined when it doesn't open. */
function hears(page, path) {
  return page.evaluate(
    (target) =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://${location.host}${target}`);
        socket.onopen = () => socket.send('hello');
        socket.onmessage = (message) => resolve(message.data);
        socket.onerror = () => resolve(undefined);
      }),
    path,
  );
}

/** Lets days pass for single sign-on, by setting it back in the store. */
async function daysPass(stage, days) {
  await stage.doorward.sqlChange(`UPDATE sso_session SET authenticated_at = authenticated_at - ${days * 86_400_000}`);
}

/** Asks for the private page until it answers otherwise than 200, for as long as a node may need to learn of a change. */
async function refusedWithinASecond(page) {
  const deadline = Date.now() + 1000;
  let status;
  do status = (await fetchFrom(page, PRIVATE)).status;
  while (status === 200 && Date.now() < deadline);
  return status;
}
