//! https by files: reads a certificate and its key, judges them, and reads them again while connections go on.
//!
//! In: the paths of `[tls]`, the host names that browsers use. Out: TLS settings for each new connection, or a
//! `Failure` that says which file is wrong and what to write instead; the same words for `serve`, `check` and SIGHUP.
//! Never here: sockets. Invariant: a pair that can't be used never replaces one that can.

use crate::configuration::{Configuration, Tls};
use crate::failure::Failure;
use doorward_core::error_code::ErrorCode;
use doorward_core::time::{Lifetime, Timestamp};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Largest file that is read, in bytes: a chain has some KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A certificate with its chain and key, and what is to be known of it.
#[derive(Clone, Debug)]
pub struct Pair {
    settings: Arc<ServerConfig>,
    /// From when on browsers take it.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Host names of `base_url` and applications that it doesn't cover.
    pub missing_names: Vec<String>,
}

/// How long a certificate is still good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// More than 30 days.
    Far,
    /// At most 30 days: it should have been renewed by now.
    Within30Days,
    /// At most 14 days.
    Within14Days,
    /// At most 3 days.
    Within3Days,
    /// No browser takes it any more.
    Expired,
    /// Not yet, or our clock is wrong.
    NotYet,
}

impl Pair {
    /// Reads both files. A pair that no browser would take (expired, another name) is read all the same; see `faults`.
    pub fn read(tls: &Tls, names: &[String]) -> Result<Self, Failure> {
        let certificates = read_certificates(&tls.certificate_file)?;
        let key = read_key(&tls.key_file)?;
        let not_understood = |what: String| {
            let remedy =
                "Name the PEM file that your certificate authority gave you, its own certificate first.";
            mistaken(format!("tls.certificate_file: {}: {what}", tls.certificate_file.display()), remedy)
        };
        let own = certificates.first().ok_or_else(|| not_understood("it is empty".to_owned()))?.clone();
        let parsed = ParsedCertificate::try_from(&own)
            .map_err(|error| not_understood(format!("its first certificate can't be used: {error}")))?;
        let missing_names = names
            .iter()
            .filter(|name| {
                let name = ServerName::try_from(name.as_str());
                !name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
            })
            .cloned()
            .collect();
        let (not_before, not_after) =
            validity(&own).ok_or_else(|| not_understood("its dates can't be read".to_owned()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
        let mut settings = settings.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => mistaken(
                format!(
                    "tls.key_file: {} does not fit the certificate in {}",
                    tls.key_file.display(),
                    tls.certificate_file.display()
                ),
                "Name the key that the certificate was requested with; after a renewal replace both files.",
            ),
            other => mistaken(
                format!("tls.key_file: {} can't be used: {other}", tls.key_file.display()),
                "Use an RSA key of at least 2048 bits, or an ECDSA key on P-256 or P-384.",
            ),
        })?;
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { settings: Arc::new(settings), not_before, not_after, missing_names })
    }

    /// How long it is still good for.
    pub fn expiry(&self, now: Timestamp) -> Expiry {
        let days = |days: i64| Lifetime::from_minutes(days * 24 * 60);
        if now < self.not_before {
            return Expiry::NotYet;
        }
        match self.not_after.since(now) {
            left if left <= days(0) => Expiry::Expired,
            left if left <= days(3) => Expiry::Within3Days,
            left if left <= days(14) => Expiry::Within14Days,
            left if left <= days(30) => Expiry::Within30Days,
            _ => Expiry::Far,
        }
    }

    /// Why browsers would refuse it, each with what to do.
    pub fn faults(&self, now: Timestamp) -> Vec<Failure> {
        let mut faults = Vec::new();
        match self.expiry(now) {
            Expiry::Expired => faults.push(mistaken(
                format!("tls.certificate_file: the certificate expired at {}", in_words(self.not_after)),
                "Renew the certificate, replace both files and send SIGHUP.",
            )),
            Expiry::NotYet => faults.push(mistaken(
                format!(
                    "tls.certificate_file: the certificate is valid from {} on",
                    in_words(self.not_before)
                ),
                "Look whether this machine's clock is right, and which file is named.",
            )),
            Expiry::Far | Expiry::Within30Days | Expiry::Within14Days | Expiry::Within3Days => {}
        }
        if !self.missing_names.is_empty() {
            let names = self.missing_names.join(", ");
            faults.push(mistaken(
                format!("tls.certificate_file: the certificate is not for {names}"),
                "Request a certificate that names the hosts of base_url and of every [[app]] with an upstream.",
            ));
        }
        faults
    }
}

/// The host names under which browsers come to the main listener.
pub fn served_names(configuration: &Configuration) -> Vec<String> {
    let applications = configuration.applications.iter().filter(|application| application.upstream.is_some());
    let mut names = vec![configuration.base_url.hostname().to_owned()];
    names.extend(applications.map(crate::configuration::Application::example_hostname));
    names.dedup();
    names
}

/// The pair that new connections get.
pub struct ServingTls {
    files: Tls,
    names: Vec<String>,
    pair: Mutex<Pair>,
}

impl fmt::Debug for ServingTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServingTls {
    /// Reads the files for the first time. An expired certificate or one for other names is served all the same, with
    /// an error in the log: the gate and whoever knows the certificate still work.
    pub fn open(files: Tls, names: Vec<String>, now: Timestamp) -> Result<Self, Failure> {
        let pair = Pair::read(&files, &names)?;
        for fault in pair.faults(now) {
            tracing::error!(what = fault.what, remedy = fault.remedy, "browsers will refuse the certificate");
        }
        Ok(Self { files, names, pair: Mutex::new(pair) })
    }

    /// Reads the files again. Connections that are open keep theirs; a pair with any fault changes nothing.
    pub fn reload(&self, now: Timestamp) -> Result<(), Failure> {
        let pair = Pair::read(&self.files, &self.names)?;
        if let Some(fault) = pair.faults(now).into_iter().next() {
            return Err(fault);
        }
        *self.pair.lock().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// The pair of this moment.
    pub fn pair(&self) -> Pair {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// TLS 1.2 and 1.3 with the certificate of this moment; `h2` and `http/1.1` are offered.
    pub fn settings(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.pair.lock().unwrap_or_else(PoisonError::into_inner).settings)
    }
}

fn mistaken(what: String, remedy: &str) -> Failure {
    Failure::new(ErrorCode::ConfigurationMistaken, what, remedy)
}

/// A time for people, in UTC.
pub fn in_words(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.seconds())
        .map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string())
}

/// The whole file, which must be of a sensible size. `key` is the configuration's key.
fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(path).map(|about| about.len());
    let content = match size {
        Ok(size) if size > FILE_BYTES_MAX => Err(format!("has {size} bytes, too many for a PEM file")),
        Ok(_) => std::fs::read(path).map_err(|error| format!("can't be read: {error}")),
        Err(error) => Err(format!("can't be read: {error}")),
    };
    content.map_err(|why| {
        let remedy = "Correct the path, and let the account that doorward runs as read the file.";
        mistaken(format!("{key}: {} {why}", path.display()), remedy)
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    const KEY: &str = "tls.certificate_file";
    let content = read_file(KEY, path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            let what = match () {
                () if says(&content, "PRIVATE KEY-----") => "holds a private key and no certificate",
                () if is_der(&content) => "is in the binary format DER",
                () => "holds no certificate that can be read",
            };
            let remedy = "Name a PEM file (-----BEGIN CERTIFICATE-----) with the certificate and its chain.";
            Err(mistaken(format!("{KEY}: {} {what}", path.display()), remedy))
        }
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    const KEY: &str = "tls.key_file";
    let content = read_file(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|_| {
        let (what, remedy) = match () {
            () if says(&content, "ENCRYPTED") => (
                "is locked with a passphrase",
                "Write the key without one (`openssl pkey -in LOCKED -out KEY`), readable by doorward's account alone.",
            ),
            () if says(&content, "BEGIN CERTIFICATE") => {
                ("holds a certificate and no private key", "Name the file of the private key.")
            }
            () if is_der(&content) => {
                ("is in the binary format DER", "Convert it: `openssl pkey -in KEY.der -out KEY.pem`.")
            }
            () => ("holds no private key that can be read", "Name a PEM file with the private key."),
        };
        mistaken(format!("{KEY}: {} {what}", path.display()), remedy)
    })
}

fn says(content: &[u8], words: &str) -> bool {
    content.windows(words.len()).any(|window| window == words.as_bytes())
}

/// Whether a file begins as everything in DER does here: a sequence with a long length.
fn is_der(content: &[u8]) -> bool {
    matches!(content, [0x30, 0x81..=0x84, ..])
}

// === The dates of a certificate (RFC 5280 section 4.1) ===

/// From when until when the certificate is valid. rustls reads the dates too, but keeps them to itself.
fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if let Some((VERSION, _, after)) = element(rest) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (SEQUENCE, dates, _) = element(rest)? else { return None };
    let (kind, from, dates) = element(dates)?;
    let from = time(kind, from)?;
    let (kind, until, _) = element(dates)?;
    Some((from, time(kind, until)?))
}

/// The first element of `der`: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, &octet| (sum << 8) | usize::from(octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` (from 1950 on) or `YYYYMMDDhhmmssZ`.
fn time(kind: u8, text: &[u8]) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match kind {
        UTC_TIME if text.len() == 12 => {
            let century = if text < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse().ok()?;
    let time = jiff::civil::DateTime::new(
        year,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        0,
    );
    let at = jiff::tz::Offset::UTC.to_timestamp(time.ok()?).ok()?;
    Some(Timestamp::from_seconds(at.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_testkit::TempDir;
    use std::path::PathBuf;

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates").join(name)
    }

    fn files(certificate: &str, key: &str) -> Tls {
        Tls { certificate_file: file(certificate), key_file: file(key) }
    }

    fn read(certificate: &str, key: &str) -> Result<Pair, Failure> {
        Pair::read(&files(certificate, key), &["sso.example.com".to_owned()])
    }

    /// 2026-01-15 09:00:00 UTC.
    const NOW: Timestamp = Timestamp::from_seconds(1_768_467_600);
    const DAY: Lifetime = Lifetime::from_minutes(24 * 60);

    #[test]
    fn a_good_pair_has_no_faults_and_its_dates_are_those_of_the_certificate() {
        let pair = read("one.pem", "one.key.pem").unwrap();
        assert_eq!(pair.faults(NOW), []);
        assert_eq!(in_words(pair.not_before), "2020-01-01T00:00:00Z");
        // Past 2049 the date has four digits for the year.
        assert_eq!(in_words(pair.not_after), "2126-01-01T00:00:00Z");
    }

    #[test]
    fn f25_the_days_that_are_left_are_told_at_30_14_and_3() {
        let pair = read("one.pem", "one.key.pem").unwrap();
        let left = |days: i64| Timestamp::from_millis(pair.not_after.millis() - days * DAY.millis());
        let second = Lifetime::from_seconds(1);
        for (now, expiry) in [
            (left(30).minus(second), Expiry::Far),
            (left(30), Expiry::Within30Days),
            (left(14), Expiry::Within14Days),
            (left(3), Expiry::Within3Days),
            (left(0).minus(second), Expiry::Within3Days),
            (left(0), Expiry::Expired),
            (pair.not_before.minus(second), Expiry::NotYet),
        ] {
            assert_eq!(pair.expiry(now), expiry, "{now:?}");
        }
    }

    #[test]
    fn f25_an_expired_certificate_and_one_for_another_name_are_told_with_what_to_do() {
        let expired = read("expired.pem", "expired.key.pem").unwrap().faults(NOW);
        assert!(expired[0].what.contains("expired at 2021-06-01T00:00:00Z"), "{expired:?}");
        let elsewhere = read("elsewhere.pem", "elsewhere.key.pem").unwrap().faults(NOW);
        assert!(elsewhere[0].what.contains("is not for sso.example.com"), "{elsewhere:?}");
    }

    #[test]
    fn each_way_to_name_the_wrong_file_has_its_own_words() {
        let folder = TempDir::new();
        let der = folder.join("one.der");
        std::fs::write(&der, [0x30, 0x82, 1, 0, 0]).unwrap();
        let der = der.display().to_string();
        for (certificate, key, words) in [
            ("one.pem", "two.key.pem", "does not fit the certificate"),
            ("one.key.pem", "one.key.pem", "holds a private key and no certificate"),
            ("one.pem", "one.pem", "holds a certificate and no private key"),
            ("one.pem", "locked.key.pem", "is locked with a passphrase"),
            ("missing.pem", "one.key.pem", "can't be read"),
            ("one.pem", "missing.pem", "can't be read"),
            (&der, "one.key.pem", "binary format DER"),
            ("one.pem", &der, "binary format DER"),
            ("../main.rs", "one.key.pem", "holds no certificate that can be read"),
            ("one.pem", "../main.rs", "holds no private key that can be read"),
        ] {
            let failure = read(certificate, key).unwrap_err();
            assert!(failure.what.contains(words), "{certificate}, {key}: {failure}");
            assert!(!failure.what.contains("BEGIN"), "{failure}");
        }
    }

    #[test]
    fn a_bad_new_pair_keeps_the_old_one() {
        let folder = TempDir::new();
        let here = Tls { certificate_file: folder.join("c.pem"), key_file: folder.join("k.pem") };
        let put = |certificate: &str, key: &str| {
            std::fs::copy(file(certificate), &here.certificate_file).unwrap();
            std::fs::copy(file(key), &here.key_file).unwrap();
        };
        put("one.pem", "one.key.pem");
        let serving = ServingTls::open(here.clone(), vec!["sso.example.com".to_owned()], NOW).unwrap();
        let first = serving.settings();
        for (certificate, key) in [
            ("two.pem", "one.key.pem"),
            ("expired.pem", "expired.key.pem"),
            ("elsewhere.pem", "elsewhere.key.pem"),
            ("one.key.pem", "one.pem"),
        ] {
            put(certificate, key);
            assert!(serving.reload(NOW).is_err(), "{certificate}");
            assert!(Arc::ptr_eq(&serving.settings(), &first), "{certificate}");
        }
        put("two.pem", "two.key.pem");
        serving.reload(NOW).unwrap();
        assert!(!Arc::ptr_eq(&serving.settings(), &first));
    }

    #[test]
    fn no_bytes_make_the_reader_of_dates_fail_badly() {
        let der = CertificateDer::from_pem_file(file("one.pem")).unwrap();
        for cut in 0..der.len() {
            let _ = validity(&CertificateDer::from(der.get(..cut).unwrap().to_vec()));
            let mut changed = der.to_vec();
            changed[cut] ^= 0xff;
            let _ = validity(&CertificateDer::from(changed));
        }
        for text in ["991332000000Z", "20261301000000Z", "2026010100000Z", "Z", "", "20260101000000"] {
            assert_eq!(time(0x18, text.as_bytes()), None, "{text}");
        }
    }
}
