//! What this program is made of.

use std::sync::LazyLock;

use syncline_runtime::kafka::mechanisms;

/// Our version, librdkafka's, and what was compiled into it.
pub(crate) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let kafka = mechanisms();
        format!("{}\nlibrdkafka {} ({})", env!("CARGO_PKG_VERSION"), kafka.librdkafka, kafka.features.join(", "))
    });
    &TEXT
}
