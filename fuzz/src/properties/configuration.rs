//! The operator's file, and a variable of the environment on lines that begin with `DOORWARD_`.
//!
//! Mistakes are told with place and remedy; what is taken is what the running service relies on: hosts in the one form
//! that is compared, apart from each other and from ours (rule 11), listeners apart.

use doorward::configuration::{Configuration, SameHost};
use doorward_core::request_target::normalise_host;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_variable = |line: &&str| line.starts_with("DOORWARD_");
    let environment = text.lines().filter(is_variable).filter_map(|line| line.split_once('=')).take(8);
    let environment: Vec<_> = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let file: Vec<&str> = text.lines().filter(|line| !is_variable(line)).collect();
    let file = file.join("\n");

    let read = || Configuration::parse(Some(Path::new("doorward.toml")), &file, environment.clone());
    let configuration = match read() {
        Ok(configuration) => configuration,
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a word");
            let lines = file.lines().count() + 1;
            for mistake in &mistakes {
                assert!(!mistake.what.is_empty() && !mistake.remedy.is_empty(), "{mistake:?}");
                assert!(mistake.line().is_none_or(|line| line <= lines), "{mistake:?} of {lines} lines");
            }
            assert_eq!(read().unwrap_err().len(), mistakes.len(), "the same mistakes each time");
            return;
        }
    };
    let own = &configuration.base_url;
    assert_eq!(own.https, own.url.scheme() == "https");
    assert_eq!(normalise_host(own.hostname(), own.https).as_deref(), Some(own.hostname()));
    assert!(own.https || own.is_localhost(), "plain http on {}", own.host);
    assert!(!own.path.ends_with('/') && (own.path.is_empty() || own.path.starts_with('/')), "{}", own.path);
    assert!(own.join("/login").starts_with(own.origin.as_str()));
    let mut hosts = BTreeSet::new();
    for application in &configuration.applications {
        let host = application.host();
        assert_eq!(normalise_host(host, own.https).as_deref(), Some(host));
        assert!(hosts.insert(application.hostname().to_ascii_lowercase()), "{host} twice");
        let shared = application.hostname() == own.hostname();
        assert!(
            !shared || own.is_localhost() || configuration.same_host == SameHost::Trusted,
            "{host} is ours"
        );
        assert_eq!(
            configuration.application_on(host).map(doorward::configuration::Application::host),
            Some(host)
        );
    }
    let listeners: Vec<_> = [configuration.listen, configuration.gate_listen]
        .into_iter()
        .chain(configuration.metrics_listen)
        .filter(|address| address.port() != 0)
        .collect();
    assert_eq!(listeners.iter().collect::<BTreeSet<_>>().len(), listeners.len(), "{listeners:?}");
    assert_eq!(read().unwrap().fingerprint(), configuration.fingerprint());
}
