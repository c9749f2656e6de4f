//! Keys and values in Kafka in the form of the file; JSON with its schemas, since a sink that is not ours needs them.

use serde_json::Value;
use syncline_runtime::settings::RegistrySettings;

use super::{Settings, placeholder};

/// Puts both converters.
pub(super) fn put(settings: &mut Settings, registry: &RegistrySettings, tree: &Value) {
    for side in ["key", "value"] {
        let converter = format!("{side}.converter");
        if tree["cdc_config"]["output_format"]["type"] == "json" {
            settings.put(&converter, "org.apache.kafka.connect.json.JsonConverter");
            settings.put(&format!("{converter}.schemas.enable"), true);
            continue;
        }
        settings.put(&converter, "io.confluent.connect.avro.AvroConverter");
        settings.put(&format!("{converter}.schema.registry.url"), registry.urls.join(","));
        if let Some(username) = &registry.username {
            let password = registry.password.as_ref();
            let password =
                password.map(|secret| placeholder(secret, "schema_registry.password", "SCHEMA_REGISTRY_PASSWORD"));
            settings.put(&format!("{converter}.basic.auth.credentials.source"), "USER_INFO");
            settings.put(
                &format!("{converter}.basic.auth.user.info"),
                format!("{username}:{}", password.unwrap_or_default()),
            );
        }
    }
}
