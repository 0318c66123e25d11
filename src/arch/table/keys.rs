//! The list of a family's keys while they are collected.

use kquant_formats::gguf::{Array, Value};

/// Keys under one prefix, in order.
pub(in crate::arch) struct Keys {
    prefix: &'static str,
    list: Vec<(String, Value)>,
}

impl Keys {
    pub(in crate::arch) fn new(prefix: &'static str) -> Self {
        Self { prefix, list: Vec::new() }
    }

    /// Sets the key to `value`, and appends it if it is new.
    pub(in crate::arch) fn add(&mut self, name: &str, value: Value) {
        self.set(format!("{}.{name}", self.prefix), value);
    }

    /// Sets `key`, which includes its prefix, to `value`, and appends it if it is new.
    pub(in crate::arch) fn set(&mut self, key: String, value: Value) {
        match self.list.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.list.push((key, value)),
        }
    }

    /// Inserts the key before the key `next`, or appends it if there is no such key.
    pub(in crate::arch) fn insert(&mut self, next: &str, name: &str, value: Value) {
        let next = format!("{}.{next}", self.prefix);
        let at = self.list.iter().position(|(key, _)| *key == next).unwrap_or(self.list.len());
        self.list.insert(at, (format!("{}.{name}", self.prefix), value));
    }

    pub(in crate::arch) fn count(&mut self, name: &str, value: u32) {
        self.add(name, Value::U32(value));
    }

    pub(in crate::arch) fn number(&mut self, name: &str, value: f32) {
        self.add(name, Value::F32(value));
    }

    /// Adds a list with a flag for each layer.
    pub(in crate::arch) fn flags(&mut self, name: &str, list: Vec<bool>) {
        self.add(name, Value::Array(Array::Bool(list)));
    }

    /// Removes the key, so that it can come later in the order.
    pub(in crate::arch) fn remove(&mut self, name: &str) {
        let key = format!("{}.{name}", self.prefix);
        self.list.retain(|(known, _)| *known != key);
    }

    /// Adds the number if there is one.
    pub(in crate::arch) fn optional_number(&mut self, name: &str, value: Option<f32>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    pub(in crate::arch) fn into_list(self) -> Vec<(String, Value)> {
        self.list
    }
}
