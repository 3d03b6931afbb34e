// S1 to S10 of the model system, each as a journey of its own, in two combinations that differ in everything.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeAll, journey, TWO } from '../support/stage.js';
import {
  arrivesAt, connectAndTest, enable, fetchFrom, fillConnection, goesOnToProvider, greenCheck, hasNoButton, isAtProvider, isRefused, openSettings, PRIVATE,
  protectedOrganization, reads, redirectionUri, signedIn, updateAndTest,
} from '../support/steps.js';

after(closeAll);

for (const which of TWO) {
  journey(test, 's1_the_settings_page_has_a_protocol_selector_with_a_state_beside_each', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await openSettings(page, stage);
    const selector = page.getByRole('region', { name: 'Protocol' });
    assert.match(await selector.innerText(), /OIDC[\s\S]*Not set up[\s\S]*SAML[\s\S]*Not available yet/);
    await connectAndTest(page, stage);
    assert.match(await selector.innerText(), /OIDC[\s\S]*Test passed/);
    await enable(page);
    await reads(page, /^Live$/);
  });

  journey(test, 's2_the_redirection_uri_is_shown_and_copied_with_one_click', which, async (stage) => {
    const page = await signedIn(stage, 'ada', { permissions: ['clipboard-read', 'clipboard-write'] });
    await openSettings(page, stage);
    const uri = await redirectionUri(page);
    assert.equal(uri, `${stage.sso}/organizations/acme/oidc/consume`);
    await page.getByRole('button', { name: /^Copy/ }).click();
    await reads(page, /copied/i);
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), uri);
  });

  journey(test, 's3_pasted_blanks_quotes_and_line_ends_are_trimmed_and_the_secret_is_never_shown_again', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await openSettings(page, stage);
    const application = await stage.console.register(await page.context().newPage(), await redirectionUri(page));
    await fillConnection(page, {
      clientId: `  "${application.clientId}" `,
      clientSecret: ` ${application.clientSecret}\t`,
      issuerUrl: ` <${application.issuerUrl}> `.replaceAll(/[<>]/g, "'"),
    });
    await updateAndTest(page);
    await stage.console.signIn(page, 'ada@acme.example');
    await greenCheck(page).waitFor();
    assert.equal(await page.getByLabel('Client ID', { exact: true }).inputValue(), application.clientId);
    assert.equal(await page.getByLabel('Client secret', { exact: true }).inputValue(), '');
    assert.ok(!(await page.content()).includes(application.clientSecret));
  });

  journey(test, 's4_the_issuer_field_takes_the_metadata_document_as_well_as_the_bare_issuer', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await openSettings(page, stage);
    const application = await stage.console.register(await page.context().newPage(), await redirectionUri(page));
    const issuer = application.issuerUrl.replace(/\/\.well-known\/openid-configuration.*$/, '');
    const ways = [issuer, `${issuer}/.well-known/openid-configuration`, `${issuer}/.well-known/openid-configuration?from=a-guide`];
    for (const [index, issuerUrl] of ways.entries()) {
      await openSettings(page, stage);
      await fillConnection(page, { ...application, issuerUrl });
      await updateAndTest(page);
      if (index === 0) await stage.console.signIn(page, 'ada@acme.example');
      else await stage.console.signInAgain(page, 'ada@acme.example');
      await reads(page, 'Ada Quill');
      await greenCheck(page).waitFor();
    }
  });

  journey(test, 's5_update_and_test_finds_mistakes_before_the_browser_leaves_and_keeps_what_was_typed', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await openSettings(page, stage);
    const nothingThere = `http://${new URL(stage.console.address).host}/nobody/v2.0`;
    for (const issuerUrl of ['no address at all', 'http://public.example/', nothingThere, 'http://127.0.0.1:1/']) {
      await fillConnection(page, { clientId: 'typed-once', clientSecret: 'typed-once-as-well', issuerUrl });
      await isRefused(page);
      assert.equal(new URL(page.url()).origin, stage.sso, issuerUrl);
      assert.equal(await page.getByLabel('Client ID', { exact: true }).inputValue(), 'typed-once');
      assert.equal(await page.getByLabel('Issuer URL', { exact: true }).inputValue(), issuerUrl);
      assert.equal(await greenCheck(page).count(), 0);
    }
    await connectAndTest(page, stage);
  });

  journey(test, 's6_after_the_provider_the_browser_is_back_on_the_settings_page_with_the_claims_and_what_they_mean', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await connectAndTest(page, stage);
    assert.equal(new URL(page.url()).pathname, '/organizations/acme/settings/sso');
    await reads(page, 'ada@acme.example');
    await reads(page, 'Ada Quill');
    await reads(page, /would link/i);
  });

  journey(test, 's7_the_green_check_belongs_to_exactly_the_settings_shown', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await connectAndTest(page, stage);
    await fillConnection(page, { clientId: 'another-client' });
    await fillConnection(page, { clientSecret: 'another-secret' });
    await updateAndTest(page);
    // The page goes on to the provider by itself; opening another one before that would be overtaken by it.
    await page.waitForURL((url) => url.origin !== stage.sso, { waitUntil: 'commit' });
    await openSettings(page, stage);
    assert.equal(await greenCheck(page).count(), 0);
    await hasNoButton(page, 'Enable');
  });

  journey(test, 's7_a_test_that_was_cancelled_at_the_provider_leaves_no_green_check_and_says_so_calmly', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await openSettings(page, stage);
    await fillConnection(page, await stage.console.register(await page.context().newPage(), await redirectionUri(page)));
    await updateAndTest(page);
    await stage.console.cancel(page);
    await page.waitForURL((url) => url.origin === stage.sso);
    await reads(page, /cancel/i);
    assert.equal(await greenCheck(page).count(), 0);
    assert.doesNotMatch(await page.locator('body').innerText(), /attack|invalid state/i);
  });

  journey(test, 's8_enable_is_there_only_after_a_passed_test_and_says_who_will_be_affected', which, async (stage) => {
    const page = await signedIn(stage, 'ada');
    await openSettings(page, stage);
    await hasNoButton(page, 'Enable');
    // A hand-made form gets nowhere either.
    const forged = await fetchFrom(page, '/organizations/acme/settings/sso/enable', {
      method: 'POST',
      body: 'revision=1&enforcement=enforced',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    assert.ok(forged.status >= 400 || forged.status === 0, `answered ${forged.status}`);
    await openSettings(page, stage);
    await hasNoButton(page, 'Disable');
    await connectAndTest(page, stage);
    await reads(page, /3 members/);
    await enable(page);
  });

  journey(test, 's9_without_the_plan_the_page_says_what_it_would_give_and_takes_nothing', which, async (stage) => {
    await stage.doorward.cli(['org', 'create', 'initech', '--name', 'Initech', '--admin', 'ada', '--plan', 'free']);
    const page = await signedIn(stage, 'ada');
    await page.goto(`${stage.sso}/organizations/initech/settings/sso`);
    await reads(page, /Team/);
    assert.equal(await page.getByLabel('Client ID', { exact: true }).count(), 0);
    const forged = await fetchFrom(page, '/organizations/initech/settings/sso/oidc', {
      method: 'POST',
      body: 'client_id=a&client_secret=b&issuer_url=c',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    assert.equal(forged.status, 402);
    assert.match(forged.text, /plan/i);
  });

  journey(test, 's10_disable_opens_the_organization_again_and_forgets_nothing', which, async (stage) => {
    const { admin, application } = await protectedOrganization(stage);
    const member = await signedIn(stage, 'mira');
    await member.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(member, stage);
    await openSettings(admin, stage);
    await admin.getByRole('button', { name: 'Disable', exact: true }).click();
    await greenCheck(admin).waitFor();
    await hasNoButton(admin, 'Disable');
    assert.equal(await admin.getByLabel('Client ID', { exact: true }).inputValue(), application.clientId);
    await member.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(member, stage, PRIVATE);
    // On again without typing anything.
    await enable(admin);
    await member.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(member, stage);
    await isAtProvider(member, stage);
  });
}
