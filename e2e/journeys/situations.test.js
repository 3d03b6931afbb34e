// What really happens to people: lunch, colleagues, two tabs, the back button, a directory without mailboxes, a dead secret.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeAll, journey, TWO } from '../support/stage.js';
import {
  arrivesAt, connectAndTest, enable, fillConnection, fillSignIn, goesOnToProvider, greenCheck, hasNoButton, openSettings, OTHER, PRIVATE,
  protectedOrganization, reads, redirectionUri, signedIn, updateAndTest, whoAmI,
} from '../support/steps.js';

const MIRA = 'mira.holt@acme.example';
after(closeAll);

for (const which of TWO) {
  journey(test, 'step 4 is done after lunch: the test is too old, one click tests again without the secret', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await connectAndTest(page, stage);
    await stage.doorward.sqlChange(`UPDATE revision_test SET tested_at = tested_at - ${90 * 60_000}`);
    await openSettings(page, stage);
    await greenCheck(page).waitFor();
    await hasNoButton(page, 'Enable');
    await page.getByRole('button', { name: 'Test again, then enable' }).click();
    await stage.console.signInAgain(page, 'ada@acme.example');
    await page.getByRole('button', { name: 'Enable', exact: true }).waitFor();
    await enable(page);
  });

  journey(
    test,
    'step 4 is done by a second admin, who tests again with his own account at the provider',
    which,
    async (stage) => {
      await connectAndTest(await signedIn(stage, 'ada'), stage);
      const second = await signedIn(stage, 'mira');
      await openSettings(second, stage);
      await greenCheck(second).waitFor();
      await hasNoButton(second, 'Enable');
      await second.getByRole('button', { name: 'Test again, then enable' }).click();
      await stage.console.signIn(second, MIRA);
      await enable(second);
      await second.goto(`${stage.hub}${PRIVATE}`);
      await arrivesAt(second, stage, PRIVATE);
    },
    { roles: { mira: { acme: 'admin' } } },
  );

  journey(
    test,
    'a directory without mailboxes works from end to end',
    which,
    async (stage) => {
      const page = await signedIn(stage, 'alex');
      await openSettings(page, stage);
      const application = await stage.console.register(await page.context().newPage(), await redirectionUri(page));
      await fillConnection(page, application);
      if (stage.console.kind === 'oidc-provider') {
        // Only for Entra does Doorward know by itself where the address is then.
        await page.getByText('Advanced', { exact: true }).click();
        await page.getByLabel('Claim that holds the e-mail').fill('preferred_username');
      }
      await updateAndTest(page);
      await stage.console.signIn(page, 'alex@acme.example');
      await greenCheck(page).waitFor();
      await reads(page, /would link/i);
      await enable(page);
      const elsewhere = await signedIn(stage, 'alex');
      await elsewhere.goto(`${stage.hub}${PRIVATE}`);
      await goesOnToProvider(elsewhere, stage);
      await stage.console.signIn(elsewhere, 'alex@acme.example');
      await arrivesAt(elsewhere, stage, PRIVATE);
      assert.equal(await whoAmI(elsewhere), 'alex · admin of acme');
    },
    { roles: { alex: { acme: 'admin' } } },
  );

  journey(test, 'two tabs sign in at once, and each comes back to its own page', which, async (stage) => {
    await protectedOrganization(stage);
    const one = await signedIn(stage, 'mira');
    const two = await one.context().newPage();
    await one.goto(`${stage.hub}${PRIVATE}?tab=1`);
    await goesOnToProvider(one, stage);
    await two.goto(`${stage.hub}${PRIVATE}?tab=2`);
    await goesOnToProvider(two, stage);
    await stage.console.signIn(two, MIRA);
    await arrivesAt(two, stage, `${PRIVATE}?tab=2`);
    await stage.console.signIn(one, MIRA);
    await arrivesAt(one, stage, `${PRIVATE}?tab=1`);
  });

  journey(test, 'rule_18_back_and_reload_after_single_sign_on_simply_go_on', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await signedIn(stage, 'mira');
    let callback;
    page.on('request', (request) => {
      if (request.url().includes('/oidc/consume')) callback = request.url();
    });
    await page.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, MIRA);
    await arrivesAt(page, stage, PRIVATE);
    // A reload of the callback: its state is spent, the session is good, so the person is taken on.
    await page.goto(callback);
    await arrivesAt(page, stage, PRIVATE);
    await page.goBack();
    assert.doesNotMatch(await page.locator('body').innerText(), /attack|invalid state|error/i);
    await page.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(page, stage, PRIVATE);
  });

  journey(test, 'rule_12_a_dead_secret_is_replaced_on_a_live_connection_and_members_never_notice', which, async (stage) => {
    const { admin, application } = await protectedOrganization(stage);
    const clientSecret = await stage.console.newSecret(await admin.context().newPage(), application);
    await openSettings(admin, stage);
    await fillConnection(admin, { clientSecret });
    await updateAndTest(admin);
    await stage.console.signInAgain(admin, 'ada@acme.example');
    await reads(admin, /^Revision 2, by you/);
    await greenCheck(admin).waitFor();
    await admin.getByRole('button', { name: 'Disable', exact: true }).waitFor();
    const member = await signedIn(stage, 'mira');
    await member.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(member, stage);
    await stage.console.signIn(member, MIRA);
    await arrivesAt(member, stage, PRIVATE);
  });

  journey(test, 'an account that is no member is told nothing about what exists', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await (await stage.person()).newPage();
    await page.goto(`${stage.hub}${PRIVATE}`);
    await fillSignIn(page, 'eve');
    await page.waitForURL(`${stage.hub}/**`);
    const body = (await page.locator('main').innerText()).replaceAll('secret', '');
    const answers = [];
    for (const path of [PRIVATE, '/acme/not-there', OTHER]) {
      const answer = await page.goto(`${stage.hub}${path}`);
      answers.push([answer.status(), (await page.locator('main').innerText()).replaceAll(/request [^\s]+/gi, '')]);
    }
    assert.equal(answers[0][0], 403);
    assert.deepEqual(answers[1], answers[0]);
    assert.deepEqual(answers[2], answers[0]);
    assert.ok(body.length > 20, 'a page, not a blank');
  });

  journey(test, 'a provider that signs in somebody else leads to a page that says which address is missing', which, async (stage) => {
    await protectedOrganization(stage);
    const page = await signedIn(stage, 'mira');
    await page.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(page, stage);
    await stage.console.signIn(page, 'eve@acme.example');
    await page.waitForURL((url) => url.origin === stage.sso);
    await reads(page, 'eve@acme.example');
    await page.goto(`${stage.hub}${PRIVATE}`);
    assert.notEqual(new URL(page.url()).origin, stage.hub, 'let in');
  });
}
