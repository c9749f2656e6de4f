//! Topic identity by `DescribeTopics`, which rdkafka's safe interface lacks: the one place where we call librdkafka
//! directly.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;

/// What a broker says about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) found: Result<Found, Code>,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As Kafka's tools print it: URL-safe base64 without padding.
    pub(super) id: String,
    pub(super) partitions: i32,
    /// Whether every partition has a leader.
    pub(super) led: bool,
}

/// A handle of librdkafka's that is destroyed when it goes.
struct Owned<T> {
    handle: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// None if librdkafka gave none.
    ///
    /// # Safety
    ///
    /// `handle` is null or owned by the caller, and `destroy` is the function that frees it.
    unsafe fn new(handle: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(handle).map(|handle| Self { handle, destroy })
    }

    fn get(&self) -> *mut T {
        self.handle.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new`'s caller promised ownership and the matching function; this runs once.
        unsafe { (self.destroy)(self.handle.as_ptr()) }
    }
}

/// Asks a broker about `names`, which must be distinct. Blocks for at most `timeout` and a little.
///
/// # Errors
///
/// The code of a request that failed as a whole; a topic's own error is in its [`Description`].
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    timeout: Duration,
) -> Result<Vec<Description>, Code> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = names.iter().map(|name| CString::new(*name)).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| Code::InvalidTopic)?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();

    // SAFETY: `rk` is alive as long as `client` is borrowed; each constructor's result is owned by us and is paired
    // with its own destroy function. `pointers` and `names` outlive the call that copies the names.
    let (queue, options, topics) = unsafe {
        let queue = Owned::new(ffi::rd_kafka_queue_new(rk), ffi::rd_kafka_queue_destroy);
        let options = Owned::new(
            ffi::rd_kafka_AdminOptions_new(rk, ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            ffi::rd_kafka_AdminOptions_destroy,
        );
        let topics = Owned::new(
            ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            ffi::rd_kafka_TopicCollection_destroy,
        );
        (queue, options, topics)
    };
    let (Some(queue), Some(options), Some(topics)) = (queue, options, topics) else {
        return Err(Code::CriticalSystemResource);
    };
    // SAFETY: `options` is alive; a null error buffer of length 0 is allowed.
    let set =
        unsafe { ffi::rd_kafka_AdminOptions_set_request_timeout(options.get(), milliseconds, ptr::null_mut(), 0) };
    if set != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(set.into());
    }
    // SAFETY: all four handles are alive; the call copies what it keeps of `topics` and `options`.
    unsafe { ffi::rd_kafka_DescribeTopics(rk, topics.get(), options.get(), queue.get()) };
    // The client answers a request that timed out itself; the second is for that answer to arrive.
    // SAFETY: `queue` is alive; the event polled from it is ours to destroy.
    let event = unsafe {
        let event = ffi::rd_kafka_queue_poll(queue.get(), milliseconds.saturating_add(1000));
        Owned::new(event, ffi::rd_kafka_event_destroy)
    };
    let event = event.ok_or(Code::OperationTimedOut)?;
    // SAFETY: `event` is alive.
    let failed = unsafe { ffi::rd_kafka_event_error(event.get()) };
    if failed != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(failed.into());
    }
    // SAFETY: `event` is alive; a null result means another kind of event.
    let result = unsafe { ffi::rd_kafka_event_DescribeTopics_result(event.get()) };
    if result.is_null() {
        return Err(Code::BadMessage);
    }
    let mut count = 0;
    // SAFETY: `result` belongs to `event`; the array holds `count` valid pointers for as long as `event` lives, and
    // `read` copies all it keeps.
    Ok(unsafe {
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        elements(topics, count).iter().map(|topic| read(*topic)).collect()
    })
}

/// # Safety
///
/// `topic` is alive.
unsafe fn read(topic: *const ffi::rd_kafka_TopicDescription_t) -> Description {
    // SAFETY: `topic` is alive, and what the getters return belongs to it; strings are terminated by a zero byte.
    unsafe {
        let name = text(ffi::rd_kafka_TopicDescription_name(topic));
        let error = ffi::rd_kafka_TopicDescription_error(topic);
        // The result has an error object for every topic; without a code it means success.
        let code =
            if error.is_null() { RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR } else { ffi::rd_kafka_error_code(error) };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Description { name, found: Err(code.into()) };
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() { String::new() } else { text(ffi::rd_kafka_Uuid_base64str(id)) };
        let mut count = 0;
        let partitions = ffi::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let led = elements(partitions, count)
            .iter()
            .all(|partition| !ffi::rd_kafka_TopicPartitionInfo_leader(*partition).is_null());
        let partitions = i32::try_from(count).unwrap_or(i32::MAX);
        Description { name, found: Ok(Found { id: id.replace('+', "-").replace('/', "_"), partitions, led }) }
    }
}

/// # Safety
///
/// `first` is null or points to `count` elements that live for `'a`.
unsafe fn elements<'a, T>(first: *mut T, count: usize) -> &'a [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// # Safety
///
/// `text` is null or a string terminated by a zero byte.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
