//! What every handler gets: configuration, store, clock, randomness, keys, and the way to providers.

use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::configuration::{Application, Configuration};
use crate::gate::assertion::Assertions;
use crate::idp::ProviderClient;
use crate::metrics::Metrics;
use crate::outbound::{Outbound, OutboundSettings, OutboundSetupError};
use crate::passwords::{PasswordError, Passwords};
use crate::proxy::UpstreamProxy;
use crate::random::{NoRandomness, Random};
use crate::sealing::Sealing;
use crate::store::Store;
use crate::web::api::ApiCalls;
use crate::web::throttle::SignInThrottle;

/// One running service. Shared by all handlers.
pub struct App {
    /// The operator's configuration.
    pub configuration: Configuration,
    /// What is kept.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Random bytes.
    pub random: Random,
    /// Seals secrets at rest.
    pub sealing: Sealing,
    /// Hashes passwords, a few at a time.
    pub passwords: Passwords,
    /// How often passwords may be tried.
    pub sign_ins: SignInThrottle,
    /// How often tokens of organizations may call.
    pub api_calls: ApiCalls,
    /// Calls identity providers.
    pub providers: ProviderClient,
    /// Judges addresses before anything calls them.
    pub outbound: Arc<Outbound>,
    /// Signs identity assertions.
    pub assertions: Assertions,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Passes requests on to applications.
    pub proxy: UpstreamProxy,
    /// Places for noting beside a request that a session was used.
    pub notes_of_use: Arc<Semaphore>,
    /// Places for noting a wrong password after its answer: [`NOTES_OF_FAILURES_MAX`].
    pub notes_of_failures: Arc<Semaphore>,
    /// Of those, the ones that are being written: few, so that no rush of them keeps another writer waiting.
    pub failures_being_noted: Semaphore,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("base_url", &self.configuration.base_url.origin).finish_non_exhaustive()
    }
}

/// Wrong passwords that may wait to be written down: those that can be looked at in half a minute.
pub const NOTES_OF_FAILURES_MAX: usize = 4096;

/// How handlers hold the app.
pub type SharedApp = Arc<App>;

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The password pool.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// The client for identity providers.
    #[error(transparent)]
    Outbound(#[from] OutboundSetupError),
}

impl App {
    /// Puts the parts together.
    pub fn new(
        configuration: Configuration,
        store: Store,
        sealing: Sealing,
        clock: Clock,
        random: Random,
        outbound: OutboundSettings,
    ) -> Result<SharedApp, StartError> {
        let outbound = Arc::new(Outbound::new(outbound, clock.clone())?);
        let metrics = Arc::new(Metrics::new(&configuration));
        Ok(Arc::new(Self {
            passwords: Passwords::new(&random)?,
            sign_ins: SignInThrottle::default(),
            api_calls: ApiCalls::default(),
            assertions: Assertions::default(),
            providers: ProviderClient::new(Arc::clone(&outbound)).counted_by(Arc::clone(&metrics)),
            metrics,
            proxy: UpstreamProxy::new(),
            notes_of_use: Arc::new(Semaphore::new(4)),
            notes_of_failures: Arc::new(Semaphore::new(NOTES_OF_FAILURES_MAX)),
            failures_being_noted: Semaphore::new(4),
            outbound,
            configuration,
            store,
            clock,
            random,
            sealing,
        }))
    }

    /// Whether our own pages are on https: decides about cookies.
    pub fn https(&self) -> bool {
        self.configuration.base_url.https
    }

    /// The redirect URI of an organization, always in the spelling of its creation (rule 1).
    pub fn redirect_uri(&self, organization: &str) -> String {
        self.configuration.base_url.join(&format!("/organizations/{organization}/oidc/consume"))
    }

    /// The path of one of our pages on our own host: `path` under the base URL's path.
    pub fn page(&self, path: &str) -> String {
        format!("{}{path}", self.configuration.base_url.path)
    }

    /// The hosts of all applications, as `normalise_host` writes them, or with `{org}` in them.
    pub fn application_hosts(&self) -> impl Iterator<Item = &str> {
        self.configuration.applications.iter().map(Application::host)
    }

    /// Where a browser may be sent back to, if `text` is such an address.
    pub fn return_to(&self, text: &str) -> Option<doorward_core::return_to::ReturnTo> {
        doorward_core::return_to::parse_return_to(text, &self.configuration.base_url.url, |host| {
            self.configuration.application_in_place(host).is_some()
        })
    }
}
