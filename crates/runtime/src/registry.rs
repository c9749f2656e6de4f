//! The schema registry (Confluent's API): registering schemas, and finding those that records name.
//!
//! The library talks to it; what it remembers does not suit us (its encoders remember one schema a subject, and
//! errors for ever), so the caches and the retries are ours.

mod apicurio;
mod error;
mod references;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_referenced_schema, get_schema_by_id, get_schema_by_subject, is_compatible_schema,
    perform_sr_call, post_schema,
};
use schema_registry_converter::schema_registry_common::{
    RegisteredReference, SchemaType, SrCall, SubjectNameStrategy, SuppliedSchema,
};

pub use error::RegistryError;

use crate::retry::{Backoff, GaveUp, at_start, until_done};
use crate::settings::RegistrySettings;
use crate::shutdown::Shutdown;
use apicurio::Apicurio;
use references::Referenced;

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(15);
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often an unknown id is asked for again: a registry that follows another hears of a new schema a little later
/// than the producer that uses it.
const UNKNOWN_ID_ATTEMPTS: u32 = 5;

/// A client of the registry. Clones share its caches.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

fn client(settings: &RegistrySettings) -> Result<SrSettings, RegistryError> {
    let mut urls = settings.urls.iter().map(|url| url.trim().trim_end_matches('/').to_owned());
    let none = || RegistryError::Address { url: String::new(), reason: "it is empty".to_owned() };
    let mut builder = SrSettings::new_builder(urls.next().ok_or_else(none)?);
    for url in urls {
        builder.add_url(url);
    }
    if let Some(username) = &settings.username {
        builder.set_basic_authorization(username, settings.password.as_ref().map(|secret| secret.expose()));
    }
    builder.set_timeout(REQUEST_TIME);
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIME);
    builder.build_with(http).map_err(|error| RegistryError::Client { reason: error.error })
}

struct Inner {
    /// For messages; without passwords.
    address: String,
    /// None where the settings name no address.
    client: Option<SrSettings>,
    /// Subject -> schema text -> id. Keyed by the text as given: parsed forms lose attributes that matter.
    registered: Mutex<HashMap<String, HashMap<Arc<str>, u32>>>,
    /// An id never changes its schema.
    schemas: Mutex<HashMap<u32, Arc<str>>>,
    /// Apicurio's own API, and what it answered.
    apicurio: Apicurio,
    by_global_id: Mutex<HashMap<u64, Arc<str>>>,
}

impl Registry {
    /// Prepares a client; talks to nobody yet. Without an address in the settings there is no registry, and whoever
    /// needs it is told.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Address`] if an address is not one.
    pub fn connect(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let client = if settings.urls.is_empty() { None } else { Some(client(settings)?) };
        let address = settings.urls.iter().map(|url| error::printable(url)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let (registered, schemas, by_global_id) = (Mutex::default(), Mutex::default(), Mutex::default());
        let apicurio = Apicurio::new(settings)?;
        Ok(Self { inner: Arc::new(Inner { address, client, registered, schemas, apicurio, by_global_id }) })
    }

    /// Asks the registry for its subjects, to see that it is there, is a registry, and lets us in. Asked again a few
    /// times where the answer may be another one soon.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]
    pub async fn check(&self) -> Result<BTreeSet<String>, RegistryError> {
        at_start("looking at the schema registry", || self.subjects()).await
    }

    async fn subjects(&self) -> Result<BTreeSet<String>, RegistryError> {
        let Some(client) = &self.inner.client else { return Ok(BTreeSet::new()) };
        let list = || get_all_subjects(client);
        // A registry that has just started may leave a request without an answer; the next one gets it.
        let answer = match tokio::time::timeout(CONNECT_TIME, list()).await {
            Ok(answer) => answer,
            Err(_) => list().await,
        };
        let subjects = answer.map_err(|error| self.inner.failed(&error, "list", "its subjects".to_owned()))?;
        Ok(subjects.into_iter().collect())
    }

    /// Whether [`Registry::register`] would succeed under a subject that exists, as far as that can be asked for.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], naming the subject.
    pub async fn would_register(&self, subject: &str, schema: &str) -> Result<(), RegistryError> {
        at_start("asking the schema registry", || self.ask_whether_compatible(subject, schema)).await
    }

    async fn ask_whether_compatible(&self, subject: &str, schema: &str) -> Result<(), RegistryError> {
        let what = || format!("a schema under subject {subject}");
        let body = serde_json::json!({"schema": schema, "schemaType": "AVRO"}).to_string();
        // What is registered already is not judged again.
        match perform_sr_call(self.inner.client()?, SrCall::PostForVersion(subject, &body)).await {
            Ok(_) => return Ok(()),
            Err(error) => self.inner.unless_unknown(&error, "look up", what())?,
        }
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match is_compatible_schema(self.inner.client()?, subject.to_owned(), supplied).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RegistryError::Incompatible {
                address: self.inner.address.clone(),
                what: what(),
                reason: "its compatibility rule forbids it".to_owned(),
            }),
            Err(error) => self.inner.unless_unknown(&error, "check", what()),
        }
    }

    /// Registers an Avro schema under a subject and returns its id; the same text under the same subject again costs
    /// nothing. One attempt.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], naming the subject.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        if let Some(id) = self.inner.registered().get(subject).and_then(|texts| texts.get(schema)) {
            return Ok(*id);
        }
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let answer = post_schema(self.inner.client()?, subject.to_owned(), supplied).await;
        let id = answer
            .map_err(|error| self.inner.failed(&error, "register", format!("a schema under subject {subject}")))?
            .id;
        self.inner.registered().entry(subject.to_owned()).or_default().insert(schema.into(), id);
        Ok(id)
    }

    /// [`Registry::register`], waiting out what may pass until it does or a shutdown is requested.
    ///
    /// # Errors
    ///
    /// Those that waiting does not cure, or the last one when a shutdown was requested.
    pub async fn register_with_retry(
        &self,
        subject: &str,
        schema: &str,
        shutdown: &Shutdown,
    ) -> Result<u32, GaveUp<RegistryError>> {
        until_done("registering a schema", shutdown, || self.register(subject, schema)).await
    }

    /// The id of the newest schema under a subject; `None` where there is no such subject. One attempt.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], naming the subject.
    pub async fn newest(&self, subject: &str) -> Result<Option<u32>, RegistryError> {
        let strategy = SubjectNameStrategy::RecordNameStrategy(subject.to_owned());
        match get_schema_by_subject(self.inner.client()?, &strategy).await {
            Ok(found) => Ok(Some(found.id)),
            Err(error) => {
                let what = format!("the newest schema under subject {subject}");
                self.inner.unless_unknown(&error, "read", what).map(|()| None)
            }
        }
    }

    /// The schema with this id, its references inlined, so that the text stands alone; otherwise as it was registered,
    /// byte for byte. Asked for once. One attempt.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], naming the id.
    pub async fn schema(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        if let Some(text) = self.inner.schemas().get(&id) {
            return Ok(Arc::clone(text));
        }
        let what = || format!("schema {id}");
        let answer = get_schema_by_id(id, self.inner.client()?).await;
        let found = answer.map_err(|error| self.inner.failed(&error, "read", what()))?;
        if found.schema_type != SchemaType::Avro {
            let kind = format!("{:?}", found.schema_type);
            return Err(RegistryError::NotAvro { id, kind });
        }
        let text: Arc<str> = if found.references.is_empty() {
            found.schema.into()
        } else {
            let referenced = self.inner.referenced(found.references, id).await?;
            let inlined = references::inline(&found.schema, &referenced);
            inlined.map_err(|reason| RegistryError::References { id, reason })?.into()
        };
        Ok(Arc::clone(self.inner.schemas().entry(id).or_insert(text)))
    }

    /// [`Registry::schema`], a few times where the id is not known. Outages are the caller's to wait out, who knows what
    /// waits.
    ///
    /// # Errors
    ///
    /// The last one.
    pub async fn known_schema(&self, id: u32, shutdown: &Shutdown) -> Result<Arc<str>, GaveUp<RegistryError>> {
        until_known(shutdown, || self.schema(id)).await
    }

    /// The schema with this global id of Apicurio's, its references inlined. One attempt.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], naming the id.
    pub async fn schema_by_global_id(&self, id: u64) -> Result<Arc<str>, RegistryError> {
        let known = || self.inner.by_global_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = known().get(&id) {
            return Ok(Arc::clone(text));
        }
        self.inner.client()?;
        let text = self.inner.apicurio.by_global_id(id, &self.inner.address).await?;
        Ok(Arc::clone(known().entry(id).or_insert(text)))
    }

    /// As [`Registry::known_schema`], by a global id.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn known_schema_by_global_id(
        &self,
        id: u64,
        shutdown: &Shutdown,
    ) -> Result<Arc<str>, GaveUp<RegistryError>> {
        until_known(shutdown, || self.schema_by_global_id(id)).await
    }
}

/// Asks a few times for an id that is not known; whatever else is answered counts at once.
async fn until_known<Fut>(shutdown: &Shutdown, ask: impl Fn() -> Fut) -> Result<Arc<str>, GaveUp<RegistryError>>
where
    Fut: Future<Output = Result<Arc<str>, RegistryError>>,
{
    let mut backoff = Backoff::default();
    for _ in 1..UNKNOWN_ID_ATTEMPTS {
        match ask().await {
            Err(error @ RegistryError::NotFound { .. }) => {
                if !backoff.wait(shutdown).await {
                    return Err(GaveUp::Stopped(error));
                }
            }
            done => return done.map_err(GaveUp::Failed),
        }
    }
    ask().await.map_err(GaveUp::Failed)
}

impl Inner {
    fn client(&self) -> Result<&SrSettings, RegistryError> {
        self.client.as_ref().ok_or(RegistryError::None)
    }

    fn registered(&self) -> MutexGuard<'_, HashMap<String, HashMap<Arc<str>, u32>>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schemas(&self) -> MutexGuard<'_, HashMap<u32, Arc<str>>> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(
        &self,
        error: &schema_registry_converter::error::SRCError,
        operation: &'static str,
        what: String,
    ) -> RegistryError {
        error::classify(error, &self.address, operation, what)
    }

    /// An error, unless it says that the subject or the schema is not there, or that the question may not be asked.
    fn unless_unknown(
        &self,
        error: &schema_registry_converter::error::SRCError,
        operation: &'static str,
        what: String,
    ) -> Result<(), RegistryError> {
        match self.failed(error, operation, what) {
            RegistryError::NotAllowed { .. }
            | RegistryError::Refused { status: 404, .. }
            | RegistryError::NotARegistry { .. } => Ok(()),
            error => Err(error),
        }
    }

    /// Everything that schema `id` refers to, directly or through others, by the name it is referred to by.
    async fn referenced(&self, direct: Vec<RegisteredReference>, id: u32) -> Result<Referenced, RegistryError> {
        let mut found = Referenced::new();
        let mut open = direct;
        while let Some(reference) = open.pop() {
            if found.contains_key(&reference.name) {
                continue;
            }
            let answer = get_referenced_schema(self.client()?, &reference).await;
            let what =
                || format!("version {} of subject {}, which schema {id} needs", reference.version, reference.subject);
            let schema = answer.map_err(|error| self.failed(&error, "read", what()))?;
            let definition = serde_json::from_str(&schema.schema)
                .map_err(|error| RegistryError::References { id, reason: format!("{}: {error}", reference.name) })?;
            found.insert(reference.name, definition);
            open.extend(schema.references);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::retry::ErrorClass;
    use crate::settings::Secret;

    /// A server that gives each request the next of these answers, and the last one from then on. It stands in for
    /// faults that a real registry does not show when asked.
    async fn faulty(answers: &'static [(u16, &'static str)]) -> (Registry, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://me:s3cret@{}/apis/ccompat/v7/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !complete(&request) {
                    let mut chunk = [0; 4096];
                    let read = socket.read(&mut chunk).await.unwrap();
                    request.extend_from_slice(&chunk[..read]);
                }
                let number = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let (status, body) = answers[number];
                let answer = format!(
                    "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let settings = RegistrySettings {
            urls: vec![url],
            username: Some("me".into()),
            password: Some(Secret::new("s3cret".into())),
        };
        (Registry::connect(&settings).unwrap(), requests)
    }

    fn complete(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        body.len() >= length.map_or(0, |length| length.parse().unwrap())
    }

    async fn refusal(status: u16, body: &'static str) -> RegistryError {
        let answers: &'static [(u16, &'static str)] = Box::leak(Box::new([(status, body)]));
        let error = faulty(answers).await.0.register("t-value", "\"int\"").await.unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
        error
    }

    #[tokio::test]
    async fn each_status_has_its_class_and_says_what_to_do() {
        for status in [408, 429, 500, 502, 503, 504] {
            let error = refusal(status, "<html>").await;
            assert_eq!(error.class(), ErrorClass::Transient, "{error}");
        }
        let error = refusal(409, r#"{"error_code":409,"message":"field a"}"#).await;
        assert_eq!(error.class(), ErrorClass::Fatal);
        for part in ["t-value", "field a", "compatibility"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        for (status, part) in [(401, "password"), (403, "grant"), (422, "t-value"), (404, "schema_registry.url")] {
            let error = refusal(status, "").await;
            assert_eq!(error.class(), ErrorClass::Fatal);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(matches!(refusal(200, "<html>").await, RegistryError::NotARegistry { .. }));
    }

    #[tokio::test]
    async fn an_outage_is_waited_out_and_an_answer_is_kept() {
        let (registry, requests) = faulty(&[(429, "{}"), (500, ""), (503, ""), (200, r#"{"id":7}"#)]).await;
        let shutdown = Shutdown::new();
        assert_eq!(registry.register_with_retry("t-value", "\"int\"", &shutdown).await.unwrap(), 7);
        assert_eq!(registry.register("t-value", "\"int\"").await.unwrap(), 7);
        assert_eq!(requests.load(Ordering::SeqCst), 4);
        // Another text under the same subject is another registration.
        registry.register("t-value", "\"long\"").await.unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_schema_is_asked_for_once_and_an_unknown_id_a_few_times() {
        let (registry, requests) =
            faulty(&[(404, r#"{"error_code":40403,"message":"no"}"#), (200, r#"{"schema":"\"int\""}"#)]).await;
        let shutdown = Shutdown::new();
        for _ in 0..3 {
            assert_eq!(&*registry.known_schema(3, &shutdown).await.unwrap(), "\"int\"");
        }
        assert_eq!(requests.load(Ordering::SeqCst), 2);

        let (registry, _) = faulty(&[(404, r#"{"error_code":40403,"message":"no"}"#)]).await;
        let error = registry.known_schema(3, &shutdown).await.unwrap_err();
        assert!(matches!(error, GaveUp::Failed(RegistryError::NotFound { .. })), "{error}");
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_wait_for_a_registry() {
        let (registry, _) = faulty(&[(503, "")]).await;
        let shutdown = Shutdown::new();
        let waiting = registry.register_with_retry("t-value", "\"int\"", &shutdown);
        let (result, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            shutdown.trigger();
        });
        assert!(matches!(result, Err(GaveUp::Stopped(_))));
    }
}
