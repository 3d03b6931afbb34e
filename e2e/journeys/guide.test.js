// The set-up guide from the first click to the last, and what it is for: once for every provider, database and proxy.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { shoot } from '../support/browser.js';
import { ALL, closeAll, journey, nameOf } from '../support/stage.js';
import {
  arrivesAt, enable, fetchFrom, fillConnection, fillSignIn, goesOnToProvider, greenCheck, isAtProvider, OTHER, PRIVATE, PUBLIC, reads, redirectionUri, signIn,
  updateAndTest, whoAmI,
} from '../support/steps.js';

after(closeAll);

for (const which of ALL) {
  journey(test, 'the guide from the first click to the protected page', which, async (stage) => {
    // Before: a member reads the private page with nothing but his account.
    const member = await (await stage.person()).newPage();
    await member.goto(`${stage.hub}${PRIVATE}`);
    await fillSignIn(member, 'mira');
    await arrivesAt(member, stage, PRIVATE);

    // Step 1: the admin finds the settings and copies the Redirection URI.
    const admin = await (await stage.person()).newPage();
    await signIn(admin, stage, 'ada');
    await admin.getByRole('link', { name: 'Settings of Acme' }).click();
    await admin.getByRole('link', { name: 'SSO', exact: true }).click();
    const uri = await redirectionUri(admin);
    assert.equal(uri, `${stage.sso}/organizations/acme/oidc/consume`);
    await shoot(admin, `guide-1-settings-${nameOf(which)}`);

    // Step 2: the provider's console, in another tab.
    const application = await stage.console.register(await admin.context().newPage(), uri);

    // Step 3: paste, test, sign in at the provider, and see the green check.
    await fillConnection(admin, application);
    await updateAndTest(admin);
    await isAtProvider(admin, stage);
    await stage.console.signIn(admin, 'ada@acme.example');
    await greenCheck(admin).waitFor();
    assert.match(admin.url(), /\/organizations\/acme\/settings\/sso/);
    await reads(admin, 'ada@acme.example');
    await shoot(admin, `guide-3-tested-${nameOf(which)}`);

    // Until now nothing has changed for anybody.
    await member.reload();
    await arrivesAt(member, stage, PRIVATE);

    // Step 4.
    await enable(admin);
    await shoot(admin, `guide-4-enabled-${nameOf(which)}`);
    // Nobody enables himself out: the test was the admin's own single sign-on.
    await admin.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(admin, stage, PRIVATE);

    // From then on: no private page without single sign-on …
    await member.goto(`${stage.hub}${PUBLIC}`);
    await arrivesAt(member, stage, PUBLIC);
    assert.equal((await fetchFrom(member, `${PRIVATE}?page=2`)).status, 401);
    await member.goto(`${stage.hub}${PRIVATE}?page=2`);
    await goesOnToProvider(member, stage);
    await stage.console.signIn(member, 'mira.holt@acme.example');
    // … and back to the very page that was wanted.
    await arrivesAt(member, stage, `${PRIVATE}?page=2`);
    assert.equal(await whoAmI(member), 'mira · write of acme');
    await shoot(member, `guide-5-member-${nameOf(which)}`);

    // Another organization is untouched; a stranger sees what is public and nothing else.
    await member.goto(`${stage.hub}${OTHER}`);
    await arrivesAt(member, stage, OTHER);
    const stranger = await (await stage.person()).newPage();
    assert.equal((await stranger.goto(`${stage.hub}${PUBLIC}`)).status(), 200);
    await arrivesAt(stranger, stage, PUBLIC);
    await stranger.goto(`${stage.hub}${PRIVATE}`);
    await stranger.getByLabel('Password', { exact: true }).waitFor();
  });
}
