//! Ed25519 keys in minisign files.

use minisign::{KeyPair, PublicKeyBox, SecretKeyBox, SignatureBox};
use serde::{Deserialize, Serialize};
use std::{fmt, io::Cursor, str::FromStr};
use superduper::{Error, ErrorKind, Result};

/// The environment variable with the password of encrypted key files.
pub const KEY_PASSWORD: &str = "SUPERDUPER_KEY_PASSWORD";

/// The public half of a key: 56 letters, as in a minisign public key file.
///
/// ```
/// use superduper_access::{PublicKey, SigningKey};
///
/// let key = SigningKey::generate()?.public();
/// let again: PublicKey = key.to_string().parse()?;
/// assert_eq!(again, key);
/// // The text of a public key file does, too.
/// let file: PublicKey = format!("untrusted comment: alice\n{key}\n").parse()?;
/// assert_eq!(file, key);
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// Check that a signature of this text was made with the secret half of this key.
    ///
    /// # Errors
    /// `PermissionDenied` for a signature by another key or of another text, and for what is no
    /// signature.
    pub(super) fn check(&self, text: &str, signature: &str) -> Result<()> {
        let refused = |why: String| Error::new(ErrorKind::PermissionDenied, why);
        let signature = SignatureBox::from_string(signature)
            .map_err(|error| refused(format!("the signature cannot be read: {error}")))?;
        let text = Cursor::new(text.as_bytes());
        minisign::verify(&self.0, &signature, text, true, false, false)
            .map_err(|_| refused(format!("the signature is not one by the key {self}")))
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let key = match text.trim().contains('\n') {
            true => PublicKeyBox::from_string(text).and_then(PublicKeyBox::into_public_key),
            false => minisign::PublicKey::from_base64(text.trim()),
        };
        let wrong = |why: String| {
            Error::invalid(format!("this is no public key: {why}"))
                .with_hint("use the second line of a minisign public key file")
        };
        let key = key.map_err(|error| wrong(error.to_string()))?;
        // Ed25519; the library does not look.
        match key.to_bytes().starts_with(b"Ed") {
            true => Ok(PublicKey(key)),
            false => Err(wrong("it is for signatures of another kind".to_owned())),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// A key that signs: an Ed25519 key pair in the memory of this process.
///
/// It comes from a minisign secret key file, and is never stored in a database. Parsed from text, an
/// encrypted file is opened with the password in the environment variable [`KEY_PASSWORD`].
#[derive(Clone)]
pub struct SigningKey {
    secret: minisign::SecretKey,
    public: PublicKey,
}

impl SigningKey {
    /// A new key, in memory only.
    ///
    /// # Errors
    /// `Internal` if the system gives no random numbers.
    pub fn generate() -> Result<Self> {
        let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().map_err(no_random)?;
        Ok(SigningKey { secret: sk, public: PublicKey(pk) })
    }

    /// A new key as the text of a minisign secret key file, and its public half. With a password the
    /// file is encrypted; that takes about a second, so that passwords cannot be guessed quickly.
    ///
    /// # Errors
    /// `Internal` if the system gives no random numbers.
    pub fn generate_file(password: Option<&str>) -> Result<(String, PublicKey)> {
        let pair = match password {
            Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
            None => KeyPair::generate_unencrypted_keypair(),
        };
        let KeyPair { pk, sk } = pair.map_err(no_random)?;
        let file = sk.to_box(Some("superduper secret key")).map_err(no_random)?;
        Ok((file.into_string(), PublicKey(pk)))
    }

    /// Open the text of a secret key file. An encrypted one needs its password.
    ///
    /// # Errors
    /// `InvalidInput` for what is no secret key file, without the password of an encrypted one, and
    /// for a wrong password.
    pub fn open(file: &str, password: Option<&str>) -> Result<Self> {
        let parsed = || SecretKeyBox::from_string(file);
        let plain = parsed().and_then(SecretKeyBox::into_unencrypted_secret_key);
        let secret = match (plain, password) {
            (Ok(secret), _) => secret,
            (Err(_), Some(password)) => parsed()
                .and_then(|key| key.into_secret_key(Some(password.to_owned())))
                .map_err(|error| Error::invalid(format!("the key cannot be opened: {error}")))?,
            (Err(error), None) => {
                return Err(Error::invalid(format!("the key cannot be opened: {error}"))
                    .with_hint("an encrypted key file needs its password"));
            }
        };
        let public = minisign::PublicKey::from_secret_key(&secret)
            .map_err(|error| Error::invalid(format!("the key cannot be used: {error}")))?;
        Ok(SigningKey { secret, public: PublicKey(public) })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// Sign a text. The signature is a minisign signature file.
    pub(super) fn sign(&self, text: &str) -> Result<String> {
        let text = Cursor::new(text.as_bytes());
        let (trusted, other) = ("superduper", "signature of superduper");
        minisign::sign(None, &self.secret, text, Some(trusted), Some(other))
            .map(SignatureBox::into_string)
            .map_err(no_random)
    }
}

impl FromStr for SigningKey {
    type Err = Error;

    fn from_str(file: &str) -> Result<Self> {
        SigningKey::open(file, std::env::var(KEY_PASSWORD).ok().as_deref())
    }
}

/// Without the secret half.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

fn no_random(error: minisign::PError) -> Error {
    Error::new(ErrorKind::Internal, format!("the system cannot make keys or signatures: {error}"))
}
