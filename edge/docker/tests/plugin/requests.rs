//! Requests as engines send them: Docker 20.10 to 28, driver and IPAM.

pub(crate) const CREATE_NETWORK: &str = r#"{"NetworkID":"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15a38359c82f32dbb3c3cd4a40","Options":{"com.docker.network.enable_ipv4":true,"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{"user-opt":"v"},"com.docker.network.internal":true},"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"172.20.0.0/16","Gateway":"172.20.0.1/16","AuxAddresses":{"dns":"172.20.0.2/16"}}],"IPv6Data":[]}
"#;
pub(crate) const DELETE_NETWORK: &str = r#"{"NetworkID":"f1d2"}
"#;
pub(crate) const CREATE_ENDPOINT: &str = r#"{"NetworkID":"f1d2","EndpointID":"ab34","Interface":{"Address":"172.20.0.5/16","AddressIPv6":"","MacAddress":""},"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"0.0.0.0","HostPort":8080,"HostPortEnd":8080}],"com.docker.network.endpoint.macaddress":"AkKsEQAC","com.docker.network.endpoint.dnsservers":["1.1.1.1"],"com.docker.network.endpoint.ifname":"eth7","my.driver.opt":"x"}}
"#;
pub(crate) const ENDPOINT: &str = r#"{"NetworkID":"f1d2","EndpointID":"ab34"}
"#;
pub(crate) const JOIN: &str = r#"{"NetworkID":"f1d2","EndpointID":"ab34","SandboxKey":"/var/run/docker/netns/5c1d","Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[]}}
"#;
pub(crate) const EXTERNAL: &str = r#"{"NetworkID":"f1d2","EndpointID":"ab34","Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostPort":8080}],"com.docker.network.endpoint.exposedports":[]}}
"#;
pub(crate) const DISCOVER: &str = r#"{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.11","BindAddress":"192.0.2.11","Self":true}}
"#;
pub(crate) const ALLOCATE_NETWORK: &str = r#"{"NetworkID":"9xw","Options":{"encrypted":"","com.docker.network.driver.mtu":"9000"},"IPv4Data":[{"AddressSpace":"GlobalDefault","Pool":"10.0.9.0/24","Gateway":"10.0.9.1/24","AuxAddresses":{}}],"IPv6Data":null}
"#;
pub(crate) const REQUEST_POOL: &str = r#"{"AddressSpace":"weft","Pool":"10.32.0.0/12","SubPool":"10.32.4.0/24","Options":{"k":"v"},"V6":false}
"#;
pub(crate) const RELEASE_POOL: &str = r#"{"PoolID":"web=10.32.0.0/12"}
"#;
pub(crate) const REQUEST_GATEWAY: &str = r#"{"PoolID":"web=10.32.0.0/12","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}
"#;
pub(crate) const REQUEST_ADDRESS: &str = r#"{"PoolID":"web=10.32.0.0/12","Address":"10.32.4.9","Options":{"com.docker.network.endpoint.name":"web1","com.docker.network.endpoint.macaddress":"02:42:0a:20:04:09"}}
"#;
pub(crate) const RELEASE_ADDRESS: &str = r#"{"PoolID":"web=10.32.0.0/12","Address":"10.32.4.9"}
"#;

/// Every method that has a body, with a good one.
pub(crate) const ALL: [(&str, &str); 18] = [
    ("NetworkDriver.CreateNetwork", CREATE_NETWORK),
    ("NetworkDriver.DeleteNetwork", DELETE_NETWORK),
    ("NetworkDriver.CreateEndpoint", CREATE_ENDPOINT),
    ("NetworkDriver.EndpointOperInfo", ENDPOINT),
    ("NetworkDriver.DeleteEndpoint", ENDPOINT),
    ("NetworkDriver.Join", JOIN),
    ("NetworkDriver.Leave", ENDPOINT),
    ("NetworkDriver.ProgramExternalConnectivity", EXTERNAL),
    ("NetworkDriver.RevokeExternalConnectivity", ENDPOINT),
    ("NetworkDriver.DiscoverNew", DISCOVER),
    ("NetworkDriver.DiscoverDelete", DISCOVER),
    ("NetworkDriver.AllocateNetwork", ALLOCATE_NETWORK),
    ("NetworkDriver.FreeNetwork", DELETE_NETWORK),
    ("IpamDriver.RequestPool", REQUEST_POOL),
    ("IpamDriver.ReleasePool", RELEASE_POOL),
    ("IpamDriver.RequestAddress", REQUEST_GATEWAY),
    ("IpamDriver.RequestAddress", REQUEST_ADDRESS),
    ("IpamDriver.ReleaseAddress", RELEASE_ADDRESS),
];

/// Those that Weft answers by itself.
pub(crate) const OWN: [&str; 6] = [
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.DiscoverNew",
    "NetworkDriver.DiscoverDelete",
    "NetworkDriver.AllocateNetwork",
    "NetworkDriver.FreeNetwork",
];

/// The word for an error in the answers of `method`.
pub(crate) fn error_key(method: &str) -> &'static str {
    if method.starts_with("IpamDriver.") { "Error" } else { "Err" }
}
