//! `captures: {store: …}`: which object store captures are copied to. Where it is reached and with whose rights is not here
//! but in the environment: what is secret has no place in the configuration.

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    S3,
    Gcs,
    Azure,
}

/// A place in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub kind: StoreKind,
    /// Scheme and bucket, without the prefix: `s3://bucket`.
    pub bucket: String,
    /// What every object's name begins with; empty, or without a slash at either end.
    pub prefix: String,
}

/// The longest address, in bytes: a bucket's name has at most 63, and an object's 1024
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>), of which a capture's own part takes some 100.
const LONGEST: usize = 512;
const EXAMPLE: &str = "write one such as s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

impl Store {
    /// Reads an address; what is wrong with it is said without it, as it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("the address of the object store {what}"));
        if text.len() > LONGEST {
            return wrong(&format!("is longer than {LONGEST} bytes; shorten its prefix"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong(&format!("has no scheme; {EXAMPLE}"));
        };
        let kind = match scheme {
            "s3" | "s3a" => StoreKind::S3,
            "gs" => StoreKind::Gcs,
            "az" | "abfs" | "abfss" => StoreKind::Azure,
            _ => return wrong(&format!("has a scheme that is not known; {EXAMPLE}")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains(':') || (bucket.contains('@') && !scheme.starts_with("abfs")) {
            return wrong(
                "holds a user, a password or a port; set credentials and endpoint in the agent's environment, \
                 as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
            );
        }
        if rest.contains(['?', '#', '%', '\\'])
            || rest.contains(|c: char| c.is_control() || c.is_whitespace())
        {
            return wrong("holds one of ? # % \\ or white space; write a plain bucket and prefix");
        }
        // An Azure container may be followed by its account's host.
        let (name, host) = bucket.split_once('@').unwrap_or((bucket, "-"));
        if name.is_empty() || host.is_empty() {
            return wrong(&format!("names no bucket; {EXAMPLE}"));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        let longest = if kind == StoreKind::Gcs { 222 } else { 63 };
        if !(3..=longest).contains(&name.len()) || !name.chars().all(plain) || host.contains('@') {
            return wrong(&format!(
                "names a bucket that cannot be: it has 3 to {longest} lower-case letters, digits, dots, dashes and underscores"
            ));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong(
                "has a prefix with an empty part, a . or a ..; write it as in s3://bucket/nodes/captures",
            );
        }
        Ok(Self { kind, bucket: format!("{scheme}://{bucket}"), prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let long = format!("s3://bucket/{}", "x".repeat(600));
        for (text, kind, bucket, prefix) in [
            ("s3://bucket", StoreKind::S3, "s3://bucket", ""),
            ("s3a://my.bucket-1/", StoreKind::S3, "s3a://my.bucket-1", ""),
            ("s3://bucket/a/b/", StoreKind::S3, "s3://bucket", "a/b"),
            ("gs://under_score/Ähre", StoreKind::Gcs, "gs://under_score", "Ähre"),
            ("az://container/x", StoreKind::Azure, "az://container", "x"),
            (
                "abfss://con@acc.dfs.core.windows.net/x",
                StoreKind::Azure,
                "abfss://con@acc.dfs.core.windows.net",
                "x",
            ),
        ] {
            let expected = Store { kind, bucket: bucket.into(), prefix: prefix.into() };
            assert_eq!(Store::parse(text), Ok(expected), "{text}");
        }
        for (text, says) in [
            ("", "no scheme"),
            ("bucket/prefix", "no scheme"),
            ("https://bucket/prefix", "not known"),
            ("file:///srv/captures", "not known"),
            ("S3://bucket", "not known"),
            ("s3://", "no bucket"),
            ("s3:///prefix", "no bucket"),
            ("abfss://@acc/x", "no bucket"),
            ("abfss://con@/x", "no bucket"),
            ("s3://key:secret@bucket/x", "a password"),
            ("s3://key@bucket/x", "a password"),
            ("s3://bucket:9000/x", "a port"),
            ("s3://Bucket/x", "cannot be"),
            ("s3://ab/x", "cannot be"),
            ("abfss://con@a@b/x", "cannot be"),
            ("s3://bucket/x?versionId=1", "holds one of"),
            ("s3://bucket/a b", "holds one of"),
            ("s3://bucket/a%2fb", "holds one of"),
            ("s3://bucket/a//b", "empty part"),
            ("s3://bucket//b", "empty part"),
            ("s3://bucket/../b", "a .."),
            (&long, "longer"),
        ] {
            let said = Store::parse(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
            assert!(!said.contains("secret@"), "{said}");
        }
    }
}
