//! JSON from providers, read strictly: one object, no member twice, bounded in size and depth.
//!
//! In: bytes. Out: a map, or what is wrong with them. Never here: what the members mean.
//! Two parsers may disagree on a doubled member, so there is no right reading of one (conformance.md J14).

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// The largest document and the deepest nesting that are read; the outermost object is depth 1.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) depth: u32,
}

/// Why a text is not the JSON object that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum JsonFault {
    TooLarge,
    TooDeep,
    NotJson,
    NotAnObject,
    /// The member of this name occurs twice in one object.
    Doubled(String),
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("too large"),
            Self::TooDeep => f.write_str("nested too deep"),
            Self::NotJson => f.write_str("not JSON"),
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::Doubled(name) => write!(f, "the member {name} is there twice"),
        }
    }
}

/// Reads one JSON object that fills `bytes`.
pub(crate) fn parse_object(bytes: &[u8], limits: Limits) -> Result<Map<String, Value>, JsonFault> {
    if bytes.len() > limits.bytes {
        return Err(JsonFault::TooLarge);
    }
    let fault = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: limits.depth, fault: &fault }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(JsonFault::NotAnObject),
        Err(_) => Err(fault.take().unwrap_or(JsonFault::NotJson)),
    }
}

/// Builds a `Value`, and stops at a doubled member or when too deep.
#[derive(Clone, Copy)]
struct Strict<'f> {
    depth_left: u32,
    fault: &'f Cell<Option<JsonFault>>,
}

impl Strict<'_> {
    fn stop<E: serde::de::Error>(self, fault: JsonFault) -> E {
        let error = E::custom(&fault);
        self.fault.set(Some(fault));
        error
    }

    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left, ..self }),
            None => Err(self.stop(JsonFault::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(inside)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(self.stop(JsonFault::Doubled(name)));
            }
            let value = members.next_value_seed(inside)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { bytes: 1000, depth: 3 };

    #[test]
    fn j14_a_doubled_member_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"\u0061":2}}"#, r#"{"b":[{"a":1,"a":2}]}"#] {
            assert_eq!(
                parse_object(text.as_bytes(), LIMITS),
                Err(JsonFault::Doubled("a".to_owned())),
                "{text}"
            );
        }
        assert!(parse_object(br#"{"a":{"a":1},"b":{"a":1}}"#, LIMITS).is_ok());
    }

    #[test]
    fn j13_depth_and_size_are_bounded() {
        assert!(parse_object(br#"{"a":[[1]]}"#, LIMITS).is_ok());
        assert_eq!(parse_object(br#"{"a":[[[1]]]}"#, LIMITS), Err(JsonFault::TooDeep));
        assert_eq!(parse_object(&[b' '; 1001], LIMITS), Err(JsonFault::TooLarge));
        let hostile = format!("{}{}", "[".repeat(400), "]".repeat(400));
        assert_eq!(parse_object(hostile.as_bytes(), LIMITS), Err(JsonFault::TooDeep));
    }

    #[test]
    fn j7_only_one_object_in_utf_8_is_taken() {
        for (bytes, fault) in [
            (&b""[..], JsonFault::NotJson),
            (b"{\"a\":\"\xff\"}", JsonFault::NotJson),
            (b"{\"a\":\"\\ud800\"}", JsonFault::NotJson),
            (b"\xef\xbb\xbf{}", JsonFault::NotJson),
            (b"{} {}", JsonFault::NotJson),
            (b"{\"a\":1,}", JsonFault::NotJson),
            (b"{\"a\":NaN}", JsonFault::NotJson),
            (b"{\"a\":1e999}", JsonFault::NotJson),
            (b"[]", JsonFault::NotAnObject),
            (b"\"{}\"", JsonFault::NotAnObject),
        ] {
            assert_eq!(parse_object(bytes, LIMITS), Err(fault), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(parse_object(&bytes, LIMITS));
        }

        #[test]
        fn what_serde_json_writes_is_read_back(pairs in proptest::collection::btree_map(".{0,8}", any::<i64>(), 0..8)) {
            let text = serde_json::to_vec(&pairs).unwrap();
            let read = parse_object(&text, LIMITS).unwrap();
            prop_assert_eq!(serde_json::to_vec(&read).unwrap(), text);
        }
    }
}
