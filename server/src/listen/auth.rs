//! Who is asking: basic authentication against bcrypt hashes, and bearer tokens.
//!
//! A bcrypt comparison takes tens of milliseconds of CPU on purpose. So it runs on a blocking
//! thread, few at a time, and its outcome is remembered (as a keyed hash of user, password and
//! stored hash; passwords are not kept). An unknown user is compared with a hash that nothing
//! matches, so that the time of the answer does not tell which users exist.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use ring::{digest, hmac, rand};
use tokio::sync::Semaphore;

use crate::config::WebConfig;

/// Who asks, once known.
#[derive(Clone, Debug)]
pub struct Principal(pub Arc<str>);

/// A hash of cost 10 of a random password that nobody knows.
const NOBODY: &str = "$2b$10$CwTycUXWue0Thq9StjUM0uJ8h1gU0nUu0P3YdC7bYkfJYy5q0mK1y";
/// Outcomes that are remembered.
const REMEMBERED_MAX: usize = 1_000;
/// Comparisons at the same time.
const COMPARISONS_MAX: usize = 2;

/// Checks requests against the configured users and tokens.
pub struct Authenticator {
    users: HashMap<String, Arc<str>>,
    tokens: Vec<(Principal, hmac::Tag)>,
    key: hmac::Key,
    remembered: Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], bool>>,
    comparisons: Semaphore,
}

impl Authenticator {
    /// Takes the users and tokens of the configuration.
    ///
    /// # Errors
    /// A hash that is not a bcrypt hash, or no randomness.
    pub fn new(config: &WebConfig) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| "no randomness from the system".to_owned())?;
        let mut users = HashMap::new();
        for (user, hash) in &config.basic_auth_users {
            // The crate knows the modern prefixes; `htpasswd -B` writes `$2y$`, which is `$2b$`.
            let hash = hash.expose();
            bcrypt::verify("", hash)
                .map_err(|e| format!("basic_auth_users: {user}: not a bcrypt hash: {e}"))?;
            users.insert(user.clone(), Arc::from(hash));
        }
        let mut tokens = Vec::new();
        for (name, token) in &config.bearer_tokens {
            if token.expose().is_empty() {
                return Err(format!("bearer_tokens: {name}: empty token"));
            }
            let tag = hmac::sign(&key, token.expose().as_bytes());
            tokens.push((Principal(Arc::from(name.as_str())), tag));
        }
        Ok(Self {
            users,
            tokens,
            key,
            remembered: Mutex::new(HashMap::new()),
            comparisons: Semaphore::new(COMPARISONS_MAX),
        })
    }

    /// Whether nobody needs to say who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }

    /// Whether the answer to a request without credentials should ask for a password.
    #[must_use]
    pub fn challenge(&self) -> &'static str {
        if self.users.is_empty() {
            "Bearer"
        } else {
            "Basic realm=\"chronolith\""
        }
    }

    /// Finds out who sent these headers; `None` if they do not say so rightly.
    pub async fn check(&self, headers: &HeaderMap) -> Option<Principal> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = value.split_once(' ')?;
        // `Token` is how InfluxDB's clients say it.
        if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
            return self.check_token(credentials.trim());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(credentials.trim())
            .ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        self.check_password(user, password).await
    }

    fn check_token(&self, token: &str) -> Option<Principal> {
        // HMAC verification takes the same time whatever the difference.
        let matches = |tag: &hmac::Tag| hmac::verify(&self.key, token.as_bytes(), tag.as_ref());
        let found = self.tokens.iter().find(|(_, tag)| matches(tag).is_ok());
        found.map(|(principal, _)| principal.clone())
    }

    async fn check_password(&self, user: &str, password: &str) -> Option<Principal> {
        let known = self.users.get(user).map(Arc::clone);
        let hash = known.clone().unwrap_or_else(|| Arc::from(NOBODY));
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, password, &hash] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut memory_key = [0_u8; digest::SHA256_OUTPUT_LEN];
        memory_key.copy_from_slice(context.sign().as_ref());
        let remembered = self.remembered.lock().get(&memory_key).copied();
        let matches = match remembered {
            Some(matches) => matches,
            None => {
                let _turn = self.comparisons.acquire().await.ok()?;
                let password = password.to_owned();
                let compared = tokio::task::spawn_blocking(move || {
                    bcrypt::verify(password, &hash).unwrap_or(false)
                });
                let matches = compared.await.unwrap_or(false);
                let mut remembered = self.remembered.lock();
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.clear();
                }
                remembered.insert(memory_key, matches);
                matches
            }
        };
        (matches && known.is_some()).then(|| Principal(Arc::from(user)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        headers(&format!("Basic {text}"))
    }

    #[tokio::test]
    async fn passwords_and_tokens_are_checked() {
        let mut config = WebConfig::default();
        let hash = bcrypt::hash("sesame", 4).unwrap();
        let apache = hash.replacen("$2b$", "$2y$", 1);
        config
            .basic_auth_users
            .insert("alice".into(), Secret::new(apache));
        config.bearer_tokens.insert("ci".into(), Secret::new("t0k"));
        let auth = Authenticator::new(&config).unwrap();
        assert!(!auth.is_open());
        for _ in 0..2 {
            assert_eq!(
                &*auth.check(&basic("alice", "sesame")).await.unwrap().0,
                "alice"
            );
            assert!(auth.check(&basic("alice", "wrong")).await.is_none());
        }
        assert!(auth.check(&basic("bob", "sesame")).await.is_none());
        assert_eq!(&*auth.check(&headers("Bearer t0k")).await.unwrap().0, "ci");
        assert!(auth.check(&headers("Bearer t0")).await.is_none());
        assert!(auth.check(&headers("Basic !!!")).await.is_none());
        assert!(auth.check(&HeaderMap::new()).await.is_none());
    }

    #[test]
    fn a_plain_password_in_the_configuration_is_refused() {
        let mut config = WebConfig::default();
        config
            .basic_auth_users
            .insert("alice".into(), Secret::new("sesame"));
        let error = Authenticator::new(&config).err().unwrap();
        assert!(
            error.contains("alice") && !error.contains("sesame"),
            "{error}"
        );
    }
}
