//! Serialized form of the types that storages read and write.
//!
//! Structs are maps of their fields. Parsed values, such as phones, are texts, and deserialization validates
//! them. Times are microseconds since 1970, as integers.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    audit::Reason,
    error::{catalog::ErrorCode, input::InvalidInput},
    invite::code::InviteCode,
    rate_limit::{
        client::ClientAddress,
        counters::{CountedEvent, CounterKey},
    },
    session::claims::CustomClaims,
    sms::delivery::MessageKey,
    user::{
        email::Email,
        external_id::ExternalId,
        metadata::Metadata,
        name::Name,
        phone::{PhoneNumber, Region},
    },
};

/// Times as microseconds since 1970, for `#[serde(with = "…")]`.
pub(crate) mod micros {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};
    use time::OffsetDateTime;

    pub(crate) fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000));
        serializer.serialize_i64(micros.map_err(ser::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let micros = i64::deserialize(deserializer)?;
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(de::Error::custom)
    }
}

/// Optional times, as [`micros`].
pub(crate) mod optional_micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use time::OffsetDateTime;

    #[derive(Serialize, Deserialize)]
    struct Micros(#[serde(with = "super::micros")] OffsetDateTime);

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Micros).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|Micros(time)| time))
    }
}

/// Implements `Serialize` by a text, and `Deserialize` by a function that validates the text.
macro_rules! serialize_as_text {
    ($($type:ty: |$value:ident| $text:expr, $from_text:expr;)+) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let $value = self;
                    serializer.collect_str($text)
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    let from_text: fn(&str) -> Result<Self, InvalidInput> = $from_text;
                    from_text(&text).map_err(D::Error::custom)
                }
            }
        )+
    };
}

serialize_as_text! {
    PhoneNumber: |phone| phone.as_str(), |text| Self::from_stored(text.to_owned());
    Email: |email| email.as_str(), Self::from_stored;
    Name: |name| name.as_str(), Self::from_stored;
    ExternalId: |id| id.as_str(), Self::from_stored;
    Reason: |reason| reason.as_str(), Self::from_stored;
    InviteCode: |code| code.as_str(), Self::from_stored;
    ClientAddress: |address| address, str::parse;
    CustomClaims: |claims| claims.as_str(), Self::from_stored;
    Region: |region| region, Self::parse;
    CounterKey: |key| key.as_str(), |text| {
        Self::from_stored(text.to_owned()).ok_or_else(|| {
            InvalidInput::new(ErrorCode::ValidationFailed, "The stored key is not that of a counter.")
        })
    };
}

/// Serializes the event as the number of [`CountedEvent::to_number`].
impl Serialize for CountedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.to_number())
    }
}

impl<'de> Deserialize<'de> for CountedEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let event = Self::from_number(i64::deserialize(deserializer)?);
        event.ok_or_else(|| D::Error::custom("the number is not that of a counted event"))
    }
}

/// Serializes the metadata as a map.
impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_object().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Deserialize::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for MessageKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            gateway: String,
            id: String,
        }
        let Parts { gateway, id } = Parts::deserialize(deserializer)?;
        Self::new(&gateway, &id).ok_or_else(|| D::Error::custom("the key of a message is invalid"))
    }
}

#[cfg(test)]
mod tests;
