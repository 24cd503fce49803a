//! What an apply or a removal would do.

use serde_json::Value;

/// The path of the first place where two documents differ.
pub(crate) fn first_difference(left: &Value, right: &Value) -> String {
    fn go(left: &Value, right: &Value, path: &mut String) -> bool {
        let length = path.len();
        match (left, right) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                    if go(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), path) {
                        return true;
                    }
                    path.truncate(length);
                }
                a.len() != b.len()
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    path.push_str(&format!("[{index}]"));
                    if go(a, b, path) {
                        return true;
                    }
                    path.truncate(length);
                }
                false
            }
            (a, b) => a != b,
        }
    }
    let mut path = String::new();
    go(left, right, &mut path);
    path
}
