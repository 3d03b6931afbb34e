// How people join: a stranger by the SSO join link, from opening it to the private page; and by an invitation.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { judgePage } from '../support/page_checks.js';
import { closeAll, journey, TWO } from '../support/stage.js';
import { arrivesAt, goesOn, isAtProvider, PRIVATE, protectedOrganization, reads, signedIn, whoAmI } from '../support/steps.js';

// Known at the provider, and without an account here whose address it would be.
const NORA = { address: 'mira.holt@acme.example', name: 'nora', password: 'marmalade each tuesday' };
after(closeAll);

for (const which of TWO) {
  journey(test, 'm9_a_stranger_joins_by_the_sso_join_link_from_opening_it_to_the_private_page', which, async (stage) => {
    const { admin } = await protectedOrganization(stage);
    await admin.goto(`${stage.sso}/organizations/acme/settings/members`);
    await admin.getByLabel('Role', { exact: true }).last().selectOption('contributor');
    await admin.getByRole('button', { name: 'Make a join link' }).click();
    const field = admin.getByLabel('Whoever opens it and can sign in at your provider may join');
    const link = await field.inputValue();
    await admin.getByRole('link', { name: 'SSO', exact: true }).click();
    assert.equal(await field.inputValue(), link, 'the SSO tab shows it too');

    const page = await (await stage.person()).newPage();
    await page.goto(link);
    await reads(page, 'Join Acme');
    if (which === TWO[0]) await judgePage(page, 'join');
    await makeAccount(page);
    await page.waitForURL(link);
    await page.getByRole('button', { name: /^Continue to / }).click();
    await isAtProvider(page, stage);
    await stage.console.signIn(page, NORA.address);
    await reads(page, 'Join Acme as this person?');
    await reads(page, NORA.address);
    if (which === TWO[0]) await judgePage(page, 'join confirm');
    await page.getByRole('button', { name: 'Join Acme' }).click();
    await reads(page, 'You are a member now.');
    await page.goto(`${stage.hub}${PRIVATE}`);
    await goesOn(page);
    await arrivesAt(page, stage, PRIVATE);
    assert.equal(await whoAmI(page), 'nora · contributor of acme');
  });

  journey(test, 'an_invitation_from_making_it_to_joining', which, async (stage) => {
    const admin = await signedIn(stage, 'ada');
    await admin.goto(`${stage.sso}/organizations/acme/settings/members`);
    await admin.getByLabel('Role', { exact: true }).last().selectOption('write');
    await admin.getByRole('button', { name: 'Make an invitation' }).click();
    const link = await admin.getByLabel('Link', { exact: true }).inputValue();
    if (which === TWO[0]) await judgePage(admin, 'invitation made');
    await admin.getByRole('link', { name: 'Back to the members' }).click();
    await admin.getByRole('button', { name: /^Revoke/ }).waitFor();

    const page = await (await stage.person()).newPage();
    await page.goto(link);
    await reads(page, 'invites you to become a member');
    if (which === TWO[0]) await judgePage(page, 'invitation');
    await makeAccount(page);
    await page.waitForURL(link);
    await page.getByRole('button', { name: 'Join Acme' }).click();
    await reads(page, 'You are a member now.');
    await page.goto(`${stage.hub}${PRIVATE}`);
    await arrivesAt(page, stage, PRIVATE);
    assert.equal(await whoAmI(page), 'nora · write of acme');

    // And out again.
    await page.goto(`${stage.sso}/organizations/acme/leave`);
    await page.getByRole('button', { name: 'Leave Acme' }).waitFor();
    if (which === TWO[0]) await judgePage(page, 'leave');
    await page.getByRole('button', { name: 'Leave Acme' }).click();
    await reads(page, 'You have left the organization.');
  });
}

async function makeAccount(page) {
  await page.getByRole('link', { name: 'Make an account' }).click();
  await page.getByLabel('User name').fill(NORA.name);
  await page.getByLabel('Password', { exact: true }).fill(NORA.password);
  await page.getByLabel('The same password again').fill(NORA.password);
  await page.getByRole('button', { name: 'Make the account' }).click();
}
