//! Schemas by Apicurio's own ids, which its Confluent API does not know: through its native API, beside the other one.

use std::sync::Arc;
use std::time::Duration;

use crate::settings::RegistrySettings;

use super::RegistryError;

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(15);

/// A client of the native API.
pub(super) struct Apicurio {
    settings: RegistrySettings,
    http: reqwest::Client,
}

impl Apicurio {
    pub(super) fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let http = reqwest::Client::builder().timeout(REQUEST_TIME).build();
        let http = http.map_err(|error| RegistryError::Client { reason: error.to_string() })?;
        Ok(Self { settings: settings.clone(), http })
    }

    /// The schema with this global id, its references inlined by the registry. One attempt at each address.
    pub(super) async fn by_global_id(&self, id: u64, address: &str) -> Result<Arc<str>, RegistryError> {
        let what = format!("global id {id}");
        let bases: Vec<&str> = self.settings.urls.iter().filter_map(|url| native(url)).collect();
        if bases.is_empty() {
            return Err(RegistryError::NotARegistry {
                address: address.to_owned(),
                reason: "records name their schemas by Apicurio's global ids, and the address is none of its \
                         /apis/ccompat"
                    .to_owned(),
            });
        }
        let mut last = None;
        for base in bases {
            // Version 3, then 2, which lacks the first path.
            for path in ["v3/ids/globalIds/{id}?references=DEREFERENCE", "v2/ids/globalIds/{id}?dereference=true"] {
                let url = format!("{base}/apis/registry/{}", path.replace("{id}", &id.to_string()));
                match self.get(&url, address, &what).await {
                    Err(error @ (RegistryError::NotFound { .. } | RegistryError::Unreachable { .. })) => {
                        last = Some(error);
                    }
                    done => return done,
                }
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::NotFound { address: address.to_owned(), what }))
    }

    async fn get(&self, url: &str, address: &str, what: &str) -> Result<Arc<str>, RegistryError> {
        let (address, what, operation) = (address.to_owned(), what.to_owned(), "read");
        let mut request = self.http.get(url);
        if let Some(username) = &self.settings.username {
            request = request.basic_auth(username, self.settings.password.as_ref().map(|secret| secret.expose()));
        }
        let answer = async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
        };
        let (status, text) = answer.await.map_err(|error| RegistryError::Unreachable {
            address: address.clone(),
            operation,
            what: what.clone(),
            reason: error.without_url().to_string(),
        })?;
        match status {
            200..=299 => Ok(text.into()),
            401 | 403 => Err(RegistryError::NotAllowed { address, operation, what, status }),
            404 => Err(RegistryError::NotFound { address, what }),
            408 | 429 | 500.. => {
                Err(RegistryError::Unavailable { address, operation, what, status, reason: String::new() })
            }
            _ => Err(RegistryError::Refused { address, operation, what, status, reason: String::new() }),
        }
    }
}

/// The registry's own address, of that of its Confluent API.
fn native(url: &str) -> Option<&str> {
    url.split_once("/apis/ccompat").map(|(native, _)| native)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_api_lies_beside_the_other_one() {
        assert_eq!(native("http://r:8080/apis/ccompat/v7"), Some("http://r:8080"));
        assert_eq!(native("http://r:8080"), None);
    }
}
