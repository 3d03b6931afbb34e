//! The master key file: one key a line, the newest first; it seals, the others only open.
//!
//! In: a path. Out: master keys. Lines are 32 bytes in Base64url (43 characters); blank lines and lines that begin with
//! `#` say nothing; `prepared ` before a key means that it opens but does not seal yet (for several nodes).
//! Invariant: the file is whole before or after a write, never half, and its mode is 0600.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

use crate::random::Random;
use crate::sealing::SealingError;

/// Longest file that is read, in bytes.
const BYTES_MAX: u64 = 16 * 1024;
/// Most keys in a file: one that seals, one that is being replaced, one prepared, and room for a mishap.
const KEYS_MAX: usize = 8;
/// What marks a key that does not seal yet.
const PREPARED: &str = "prepared ";

const HEADER: &str = "\
# Doorward's master keys, the newest first. Keep a copy of this file apart from the database's, and an old key for as\n\
# long as backups that were made under it. Changed by `doorward key rotate`.\n";

/// One master key.
#[derive(Clone)]
pub struct MasterKey {
    /// The 32 bytes.
    pub bytes: Zeroizing<[u8; 32]>,
    /// Opens, but does not seal yet.
    pub prepared: bool,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("prepared", &self.prepared).finish_non_exhaustive()
    }
}

impl MasterKey {
    /// A new one.
    pub fn generate(random: &Random) -> Result<Self, SealingError> {
        let bytes = random.bytes().map_err(|_| SealingError::Library)?;
        Ok(Self { bytes: Zeroizing::new(bytes), prepared: false })
    }
}

/// Tells whether the file is still the one that was read, at the price of one look at its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

impl Version {
    /// Of the file as it is now; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::from_metadata)
    }

    fn from_metadata(entry: &std::fs::Metadata) -> Self {
        let changed = (entry.ctime(), entry.ctime_nsec());
        Self { device: entry.dev(), inode: entry.ino(), changed, bytes: entry.len() }
    }
}

fn fault(path: &Path) -> impl Fn(io::Error) -> SealingError {
    move |source| SealingError::KeyFile { path: path.display().to_string(), source }
}

/// Reads the keys, the newest first. Refused if others may read the file, or if a line is no key.
pub fn read(path: &Path) -> Result<(Vec<MasterKey>, Version), SealingError> {
    let file = File::open(path).map_err(fault(path))?;
    let entry = file.metadata().map_err(fault(path))?;
    if entry.permissions().mode() & 0o077 != 0 {
        return Err(SealingError::KeyFileOpen(path.display().to_string()));
    }
    let malformed =
        |why: &'static str| SealingError::KeyFileMalformed { path: path.display().to_string(), why };
    let mut text = Zeroizing::new(String::new());
    match file.take(BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(malformed("it is no text")),
        other => other.map_err(fault(path))?,
    };
    if text.len() as u64 > BYTES_MAX {
        return Err(malformed("it is longer than 16 KiB"));
    }
    let mut keys: Vec<MasterKey> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (prepared, key) = line.strip_prefix(PREPARED).map_or((false, line), |key| (true, key.trim()));
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(key).unwrap_or_default());
        let bytes: [u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| malformed("a line of it is not 32 bytes in Base64url (43 characters)"))?;
        let bytes = Zeroizing::new(bytes);
        if keys.iter().any(|known| known.bytes == bytes) {
            return Err(malformed("it holds the same key twice"));
        }
        keys.push(MasterKey { bytes, prepared });
    }
    match keys.first() {
        None => Err(malformed("it holds no key")),
        Some(first) if first.prepared => Err(malformed("its first key is only prepared, so none seals")),
        Some(_) if keys.len() > KEYS_MAX => Err(malformed("it holds more than eight keys")),
        Some(_) => Ok((keys, Version::from_metadata(&entry))),
    }
}

/// Makes the file with one new key and mode 0600, and its folder if need be. Refused where there is a file.
pub fn create(path: &Path, random: &Random) -> Result<(), SealingError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(fault(path))?;
    }
    let text = as_text(&[MasterKey::generate(random)?]);
    let part = part_beside(path);
    write_part(&part, &text).map_err(fault(path))?;
    // A link, unlike a rename, never takes the place of a key that another process has made meanwhile.
    let linked = std::fs::hard_link(&part, path);
    drop(std::fs::remove_file(&part));
    linked.and_then(|()| sync_folder(path)).map_err(fault(path))
}

/// Puts these keys in the place of the file: whole, or not at all. Refused if they are more than are read.
pub fn replace(path: &Path, keys: &[MasterKey]) -> Result<(), SealingError> {
    if keys.len() > KEYS_MAX {
        return Err(SealingError::KeyFileFull(path.display().to_string()));
    }
    // Where the path is a link, what it leads to is replaced.
    let path = path.canonicalize().map_err(fault(path))?;
    let part = part_beside(&path);
    write_part(&part, &as_text(keys))
        .and_then(|()| std::fs::rename(&part, &path))
        .and_then(|()| sync_folder(&path))
        .map_err(fault(&path))
}

/// Keeps others from changing the file until dropped: two rotations at once would lose a key.
pub fn lock(path: &Path) -> Result<File, SealingError> {
    let path = path.canonicalize().map_err(fault(path))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = File::open(folder).map_err(fault(&path))?;
    folder.lock().map_err(fault(&path))?;
    Ok(folder)
}

fn as_text(keys: &[MasterKey]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(HEADER.to_owned());
    for key in keys {
        if key.prepared {
            text.push_str(PREPARED);
        }
        text.push_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(key.bytes.as_slice())));
        text.push('\n');
    }
    text
}

fn part_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    path.with_file_name(name)
}

fn write_part(part: &Path, text: &str) -> io::Result<()> {
    // Left over from a process of the same number that was killed.
    if let Err(error) = std::fs::remove_file(part)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes a new entry in a folder survive a loss of power.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_testkit::TempDir;

    fn written(text: &str, mode: u32) -> (TempDir, PathBuf) {
        let folder = TempDir::new();
        let path = folder.join("master.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn key(byte: u8) -> String {
        URL_SAFE_NO_PAD.encode([byte; 32])
    }

    #[test]
    fn a_file_holds_keys_the_newest_first_with_remarks_between() {
        let (_folder, path) =
            written(&format!("# remark\n\n{}\r\n{}\nprepared {}\n", key(1), key(2), key(3)), 0o600);
        let (keys, _) = read(&path).unwrap();
        let read_back: Vec<_> = keys.iter().map(|key| (key.bytes[0], key.prepared)).collect();
        assert_eq!(read_back, [(1, false), (2, false), (3, true)]);
        replace(&path, &keys).unwrap();
        let again: Vec<_> = read(&path).unwrap().0.iter().map(|key| (key.bytes[0], key.prepared)).collect();
        assert_eq!(again, read_back, "what is written is read");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn f24_a_file_of_one_bare_key_as_earlier_versions_made_it_is_read() {
        let (_folder, path) = written(&format!("{}\n", key(9)), 0o600);
        assert_eq!(read(&path).unwrap().0.len(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_file_or_open_to_others_is_refused() {
        let many: String = (1..=9).map(|n| key(n) + "\n").collect();
        for text in [
            String::new(),
            "# only a remark\n".into(),
            "short\n".into(),
            format!("{}\nnonsense\n", key(1)),
            format!("{}\n{}\n", key(1), key(1)),
            format!("prepared {}\n", key(1)),
            many,
            "#".repeat(17_000),
        ] {
            let (_folder, path) = written(&text, 0o600);
            assert!(matches!(read(&path), Err(SealingError::KeyFileMalformed { .. })), "{text}");
        }
        for mode in [0o640, 0o604, 0o620, 0o666] {
            let (_folder, path) = written(&key(1), mode);
            assert!(matches!(read(&path), Err(SealingError::KeyFileOpen(_))), "{mode:o}");
        }
    }

    #[test]
    fn more_keys_than_are_read_are_not_written() {
        let (_folder, path) = written(&key(1), 0o600);
        let keys: Vec<MasterKey> =
            (1..=9).map(|n| MasterKey { bytes: Zeroizing::new([n; 32]), prepared: n > 1 }).collect();
        assert!(matches!(replace(&path, &keys), Err(SealingError::KeyFileFull(_))));
        assert_eq!(read(&path).unwrap().0.len(), 1, "the file is as it was");
        replace(&path, &keys[..8]).unwrap();
        assert_eq!(read(&path).unwrap().0.len(), 8);
    }

    #[test]
    fn a_key_is_never_written_over_by_a_new_one() {
        let (_folder, path) = written(&key(1), 0o600);
        assert!(create(&path, &Random::seeded(1)).is_err());
        assert_eq!(read(&path).unwrap().0[0].bytes[0], 1);
    }
}
