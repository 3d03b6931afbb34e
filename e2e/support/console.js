// The identity provider's side of a journey: its console, where an application is registered, and its sign-in page.
// Goes in: which provider. Comes out: `register()` and `signIn()`, the same words for both.
// Never here: Doorward's pages.
import { startDemo } from './doorward.js';
import { startOidcProvider } from './oidc_provider.js';

/** Starts the provider of that name. */
export function openConsole(provider) {
  return provider === 'entra' ? openEntra() : openCertified();
}

async function openCertified() {
  const provider = await startOidcProvider();
  return {
    kind: 'oidc-provider',
    address: provider.issuer,
    provider,
    /** Makes an application with this redirect URI; returns what is to be pasted at Doorward. */
    async register(_, redirectUri) {
      return { ...provider.register(redirectUri), issuerUrl: provider.issuer };
    },
    async newSecret(_, application) {
      return provider.replaceSecret(application.clientId);
    },
    /** From the provider's sign-in page back to Doorward. */
    async signIn(page, address) {
      await page.getByLabel('Name at the provider').fill(address);
      await page.getByRole('button', { name: 'Sign in' }).click();
    },
    async cancel(page) {
      await page.getByRole('button', { name: 'Cancel' }).click();
    },
    stop: () => provider.stop(),
  };
}
