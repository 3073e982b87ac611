//! From the service's name to all addresses behind it. Not by libc: that of the static build, musl, hands out 48 at most and
//! says nothing of the others. So `/etc/hosts` counts for nothing here; `/etc/resolv.conf` does, and answers of more
//! addresses than fit into a datagram come over TCP.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use domain::base::iana::{Rcode, Rtype};
use domain::base::name::{Name, RelativeName, ToName as _};
use domain::rdata::{A, Aaaa};
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::ResolvConf;

use super::PeersError;
use crate::config::Service;

/// Of the search list.
const SEARCHED: usize = 8;

/// Whom to ask. Looks at the disk.
pub(super) fn settings() -> ResolvConf {
    let mut settings = ResolvConf::new();
    // What cannot be read leaves the name server on this host, as libc has it.
    let _ = settings.parse_file("/etc/resolv.conf");
    settings.finalize();
    settings
}

/// All addresses behind the service, without a deadline of its own.
pub(super) async fn look_up(
    service: &Service,
    settings: ResolvConf,
) -> Result<BTreeSet<SocketAddr>, PeersError> {
    let failed = |why: String| PeersError::Unresolved { host: service.host.clone(), why };
    let with_port = |address: IpAddr| SocketAddr::new(address, service.port);
    if let Ok(address) = service.host.parse::<IpAddr>() {
        return Ok(BTreeSet::from([with_port(address)]));
    }
    let resolver = StubResolver::from_conf(settings);
    for name in names(&service.host, &resolver).map_err(failed)? {
        let (a, aaaa) = tokio::join!(ask(&resolver, &name, Rtype::A), ask(&resolver, &name, Rtype::AAAA));
        if matches!((&a, &aaaa), (Ok(None), Ok(None))) {
            continue;
        }
        let mut found = BTreeSet::new();
        let mut why = None;
        for half in [a, aaaa] {
            match half {
                Ok(addresses) => found.extend(addresses.into_iter().flatten().map(with_port)),
                Err(error) => why = Some(error),
            }
        }
        // Whatever it is that came in place of addresses, another name is not what was meant.
        return match why {
            Some(why) if found.is_empty() => Err(failed(why)),
            None if found.is_empty() => Err(failed("the name has no address".to_owned())),
            _ => Ok(found),
        };
    }
    Err(failed("there is no such name".to_owned()))
}

/// What is asked for, in this order, until there is such a name. One with a dot in it is whole: the search list of a pod ends
/// with domains of the node's, in which somebody else may answer, and be shown the token. One without is looked for as libc does.
fn names(host: &str, resolver: &StubResolver) -> Result<Vec<Name<Vec<u8>>>, String> {
    let whole = Name::from_str(host).map_err(|error| error.to_string())?;
    if host.contains('.') {
        return Ok(vec![whole]);
    }
    let relative: RelativeName<Vec<u8>> = RelativeName::from_str(host).map_err(|error| error.to_string())?;
    let searched = resolver.options().search.as_slice().iter().take(SEARCHED);
    // One that is too long with the suffix is none.
    let searched = searched.filter_map(|suffix| Some(relative.clone().chain(suffix).ok()?.to_name()));
    Ok(searched.chain([whole]).collect())
}

/// None if there is no such name.
async fn ask(
    resolver: &StubResolver,
    name: &Name<Vec<u8>>,
    kind: Rtype,
) -> Result<Option<Vec<IpAddr>>, String> {
    let answer = resolver.query((name, kind)).await.map_err(|error| error.to_string())?;
    match answer.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Ok(None),
        other => return Err(format!("the name server answers {other}")),
    }
    let section = answer.answer().map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    if kind == Rtype::A {
        found.extend(section.limit_to_in::<A>().flatten().map(|record| IpAddr::V4(record.data().addr())));
    } else {
        found.extend(section.limit_to_in::<Aaaa>().flatten().map(|record| IpAddr::V6(record.data().addr())));
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use domain::resolv::stub::conf::{SearchList, SearchSuffix, ServerConf, Transport};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    /// More than musl's own 48, and than a datagram holds.
    const MANY: u16 = 500;

    /// RFC 1035, section 4: the question again, with `many` addresses if it is for an A record of `agents.test`, or of any
    /// name of a stranger's domain; for names that begin with `broken` SERVFAIL, with `empty` an answer of none, and for all
    /// others that there is no such name.
    fn answer(message: &[u8], many: u16, cut: bool) -> Vec<u8> {
        let name = message[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
        let question = &message[12..name + 4];
        let known = question.starts_with(b"\x06agents\x04test\x00")
            || question[..question.len() - 4].ends_with(b"\x08stranger\x00");
        let many = if known && question.ends_with(&[0, 1, 0, 1]) && !cut { many } else { 0 };
        let mut answer = message[..2].to_vec();
        let code = match question {
            _ if known || question.starts_with(b"\x05empty") => 0x80,
            _ if question.starts_with(b"\x06broken") => 0x82,
            _ => 0x83,
        };
        answer.extend([0x85 | (u8::from(cut) << 1), code, 0, 1]);
        answer.extend(many.to_be_bytes());
        answer.extend([0, 0, 0, 0]);
        answer.extend(question);
        for number in 0..many {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 1]);
            answer.extend(number.to_be_bytes());
        }
        answer
    }

    async fn settings(many: u16) -> ResolvConf {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut question = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut question).await {
                let _ = udp.send_to(&answer(&question[..length], many, many > 20), from).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut question = vec![0; length.into()];
                        stream.read_exact(&mut question).await.unwrap();
                        let answer = answer(&question, many, false);
                        stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        let mut settings = ResolvConf::new();
        settings.servers = vec![ServerConf::new(address, Transport::UdpTcp)];
        settings.options.timeout = Duration::from_secs(2);
        let mut search = SearchList::new();
        for suffix in ["nowhere.test", "test"] {
            search.push(SearchSuffix::from_str(suffix).unwrap());
        }
        settings.options.search = search;
        settings
    }

    #[tokio::test]
    async fn a_name_is_all_its_addresses_however_many() {
        for (host, many) in [("agents.test", 3), ("agents.test.", MANY), ("agents", MANY), ("agents", 1)] {
            let service = Service { host: host.to_owned(), port: 7 };
            let found = look_up(&service, settings(many).await).await.unwrap();
            assert_eq!(found.len(), usize::from(many), "{host}");
            let last = Ipv4Addr::from(0x0a01_0000 + u32::from(many) - 1);
            assert!(found.contains(&SocketAddr::from((last, 7))), "{host}");
        }
        for host in ["10.1.2.3", "fd00::1"] {
            let service = Service { host: host.to_owned(), port: 7 };
            let found = look_up(&service, settings(0).await).await.unwrap();
            assert_eq!(found, BTreeSet::from([SocketAddr::new(host.parse().unwrap(), 7)]));
        }
        for (host, many, says) in [
            ("agents.test", 0, "no address"),
            ("agents.", 9, "no such name"),
            ("nobody", 9, "no such name"),
            ("nowhere.test", 9, "no such name"),
            ("broken.test", 9, "SERVFAIL"),
        ] {
            let service = Service { host: host.to_owned(), port: 7 };
            let error = look_up(&service, settings(many).await).await.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_is_not_looked_for_elsewhere_when_it_cannot_be_found() {
        for host in ["gone.svc.local", "empty.svc.local", "broken.svc.local", "empty", "broken"] {
            let service = Service { host: host.to_owned(), port: 7 };
            let mut settings = settings(3).await;
            settings.options.search.push(SearchSuffix::from_str("stranger").unwrap());
            let found = look_up(&service, settings).await;
            assert!(found.is_err(), "{host}: {found:?}");
        }
    }
}
