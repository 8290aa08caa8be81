//! Keys and certificates: a private CA with a leaf for this machine, and what each app gets from Apple and Google.
//!
//! Made at start, or read from the credentials folder so that a restart keeps them. The simulator checks signatures
//! with the public halves; the private halves are what a client is configured with. Never logged.

use std::path::{Path, PathBuf};

use jsonwebtoken::DecodingKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::options::{AppSpec, StartError};
use crate::random;

/// What a client of one app is configured with.
#[derive(Clone)]
pub struct Credentials {
    /// Apple's `.p8`: a PKCS#8 EC P-256 private key.
    pub apns_key_pem: String,
    /// The key's id, 10 characters.
    pub apns_key_id: String,
    /// The team's id, 10 characters.
    pub apns_team_id: String,
    /// The topic, which is the bundle id.
    pub apns_topic: String,
    /// The service account as Google's console gives it; `token_uri` is this simulator's.
    pub fcm_service_account_json: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("apns_topic", &self.apns_topic).finish_non_exhaustive()
    }
}

/// One app's credentials, with what its signatures are checked with.
pub(crate) struct AppKeys {
    pub(crate) credentials: Credentials,
    pub(crate) apns_key: DecodingKey,
    pub(crate) fcm_key: DecodingKey,
    pub(crate) fcm_key_id: String,
    pub(crate) client_email: String,
}

/// The certificates of the servers.
pub(crate) struct ServerIdentity {
    pub(crate) ca_pem: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// The folder that outlives a simulator, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folder<'a>(pub(crate) Option<&'a Path>);

impl Folder<'_> {
    fn path(self, name: &str) -> Option<PathBuf> {
        self.0.map(|dir| dir.join(name))
    }

    fn read(self, name: &str) -> Result<Option<(PathBuf, String)>, StartError> {
        let Some(path) = self.path(name) else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StartError::File { path, source }),
        }
    }

    /// Writes a file that only its owner can read; it may hold a private key.
    ///
    /// # Errors
    /// [`StartError::File`].
    pub(crate) fn write(self, name: &str, text: &str) -> Result<(), StartError> {
        use std::io::Write;
        let (Some(dir), Some(path)) = (self.0, self.path(name)) else { return Ok(()) };
        let failed = |path: &Path, source| StartError::File { path: path.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
        let mut open = std::fs::OpenOptions::new();
        open.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
        open.open(&path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| failed(&path, source))
    }
}

/// The CA from `folder`, or a new one, and a fresh leaf for `host`, `localhost`, `127.0.0.1` and `listen_ip`.
///
/// # Errors
/// Unreadable or damaged files; see [`StartError`].
pub(crate) fn server_identity(
    folder: Folder<'_>,
    host: &str,
    listen_ip: std::net::IpAddr,
) -> Result<ServerIdentity, StartError> {
    let ca_params = ca_params()?;
    let (ca_pem, ca_key) = match (folder.read("ca.pem")?, folder.read("ca-key.pem")?) {
        (Some((_, ca_pem)), Some((path, key))) => (ca_pem, parse_key(path, &key)?),
        _ => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let ca_pem = ca_params.self_signed(&key)?.pem();
            folder.write("ca.pem", &ca_pem)?;
            folder.write("ca-key.pem", &key.serialize_pem())?;
            (ca_pem, key)
        }
    };
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    for name in [host.to_owned(), listen_ip.to_string()] {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name = common_name("Herald simulator");
    leaf.not_before = date_time_ymd(2020, 1, 1);
    leaf.not_after = date_time_ymd(2100, 1, 1);
    leaf.use_authority_key_identifier_extension = true;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = leaf.signed_by(&leaf_key, &Issuer::from_params(&ca_params, &ca_key))?;
    Ok(ServerIdentity {
        ca_pem,
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
    })
}

fn ca_params() -> Result<CertificateParams, StartError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = common_name("Herald simulator CA");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn parse_key(path: PathBuf, pem: &str) -> Result<KeyPair, StartError> {
    KeyPair::from_pem(pem).map_err(|error| StartError::Key { path, problem: error.to_string() })
}

/// The app's keys from `folder`, or new ones. Ids are derived from `seed` and the app's id.
///
/// # Errors
/// Unreadable or damaged files; see [`StartError`].
pub(crate) fn app_keys(folder: Folder<'_>, spec: &AppSpec, seed: u64, token_uri: &str) -> Result<AppKeys, StartError> {
    let app = &spec.app;
    let (apns_file, fcm_file) = (format!("{app}.p8"), format!("{app}.service-account.json"));
    let apns_key = match folder.read(&apns_file)? {
        Some((path, pem)) => parse_key(path, &pem)?,
        None => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
    };
    let fcm_key = match folder.read(&fcm_file)? {
        Some((path, json)) => service_account_key(path, &json)?,
        None => KeyPair::generate_for(&PKCS_RSA_SHA256)?,
    };
    let client_email = format!("herald@{}.iam.gserviceaccount.com", spec.project_id);
    let fcm_key_id = random::chars(seed, &format!("{app} private_key_id"), random::HEX, 40);
    let service_account = serde_json::json!({
        "type": "service_account",
        "project_id": spec.project_id,
        "private_key_id": fcm_key_id,
        "private_key": fcm_key.serialize_pem(),
        "client_email": client_email,
        "client_id": random::chars(seed, &format!("{app} client_id"), b"0123456789", 21),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    });
    let credentials = Credentials {
        apns_key_pem: apns_key.serialize_pem(),
        apns_key_id: random::chars(seed, &format!("{app} key_id"), random::CAPITALS, 10),
        apns_team_id: random::chars(seed, &format!("{app} team_id"), random::CAPITALS, 10),
        apns_topic: spec.bundle_id.clone(),
        fcm_service_account_json: format!("{service_account:#}"),
    };
    folder.write(&apns_file, &credentials.apns_key_pem)?;
    folder.write(&fcm_file, &credentials.fcm_service_account_json)?;
    Ok(AppKeys {
        credentials,
        apns_key: DecodingKey::from_ec_der(apns_key.public_key_raw()),
        fcm_key: DecodingKey::from_rsa_der(fcm_key.public_key_raw()),
        fcm_key_id,
        client_email,
    })
}

fn service_account_key(path: PathBuf, json: &str) -> Result<KeyPair, StartError> {
    #[derive(serde::Deserialize)]
    struct ServiceAccount {
        private_key: String,
    }
    match serde_json::from_str::<ServiceAccount>(json) {
        Ok(account) => parse_key(path, &account.private_key),
        Err(error) => Err(StartError::Key { path, problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> AppSpec {
        AppSpec {
            app: "mail.contoso.com".to_owned(),
            bundle_id: "com.contoso.mail".to_owned(),
            project_id: "p".to_owned(),
        }
    }

    #[test]
    fn a_folder_keeps_the_authority_and_the_keys_over_a_restart_while_the_token_address_follows_the_port() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder(Some(dir.path()));
        let listen = "127.0.0.1".parse().unwrap();
        let first = server_identity(folder, "simulator", listen).unwrap();
        let second = server_identity(folder, "simulator", listen).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_ne!(first.chain, second.chain);

        let first = app_keys(folder, &spec(), 1, "https://localhost:1/token").unwrap().credentials;
        let second = app_keys(folder, &spec(), 1, "https://localhost:2/token").unwrap().credentials;
        assert_eq!(first.apns_key_pem, second.apns_key_pem);
        assert_eq!(first.apns_key_id, second.apns_key_id);
        let account = |c: &Credentials| serde_json::from_str::<serde_json::Value>(&c.fcm_service_account_json).unwrap();
        assert_eq!(account(&first)["private_key"], account(&second)["private_key"]);
        assert_eq!(account(&second)["token_uri"], "https://localhost:2/token");
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mail.contoso.com.p8"), "no key").unwrap();
        let error = app_keys(Folder(Some(dir.path())), &spec(), 1, "u").err().unwrap();
        assert!(error.to_string().contains("mail.contoso.com.p8"), "{error}");
    }
}
