//! Holds what people deploy to what the program serves and reads.

use super::routes;
use serde_yaml::Value;
use std::path::{Path, PathBuf};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(deploy(name)).unwrap()).unwrap()
}

#[test]
fn the_pod_runs_a_native_sidecar_whose_probes_are_served() {
    let deployment = yaml("kubernetes/deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], Value::from("Always"));
    let served: Vec<&str> = routes::table().iter().map(|route| route.path).collect();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = sidecar[probe]["httpGet"]["path"].as_str().unwrap();
        assert!(served.contains(&path), "{probe}: {path}");
        // A firing alert or a lost broker must not take the pod out of service: /health is not a probe.
        assert_ne!(path, "/health");
    }
    let security = &sidecar["securityContext"];
    assert_eq!(
        (
            &security["readOnlyRootFilesystem"],
            &security["allowPrivilegeEscalation"],
            &pod["securityContext"]["runAsNonRoot"]
        ),
        (&Value::from(true), &Value::from(false), &Value::from(true))
    );
    let config_map = &yaml("kubernetes/kustomization.yaml")["configMapGenerator"][0];
    assert_eq!(config_map["name"], pod["volumes"][0]["configMap"]["name"]);
    assert!(deploy("kubernetes").join(config_map["files"][0].as_str().unwrap()).exists());
    assert_eq!(
        yaml("kubernetes/podmonitor.yaml")["spec"]["podMetricsEndpoints"][0]["port"],
        sidecar["ports"][0]["name"]
    );
}

#[test]
fn compose_mounts_what_exists() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_mapping().unwrap();
    let mut checked = 0;
    for (name, service) in services {
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(deploy(source).exists(), "{name:?}: {source}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 5);
    assert_eq!(compose["services"]["sidewatch"]["network_mode"], Value::from("service:shop"));
}
