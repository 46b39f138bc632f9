"""Values that the chart must refuse, and what it must say of them."""

from __future__ import annotations

from typing import Any, Final

DEFAULT: Final = {"coturn": {"publicHost": "turn.example.com"}}
MISSPELT: Final = {
    "gateway": {"tolerations": [{"operater": "Exists"}]},
    "ray": {"workers": {"affinity": {"nodeAffinty": {}}}},
}
"""Fields of Kubernetes' own, which the chart passes on and the strict schemas refuse."""


def _with(**values: Any) -> dict[str, Any]:
    return {**DEFAULT, **values}


REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    # By the schema, with the path of the value.
    "unknown name at the top": (_with(gatway={}), "additional properties 'gatway' not allowed"),
    "unknown name below": (
        _with(gateway={"replica": 3}),
        "at '/gateway': additional properties 'replica' not allowed",
    ),
    "unknown way out": (
        _with(webrtc={"exposure": "nodePort"}),
        "at '/webrtc/exposure': value must be one of 'relay', 'hostNetwork', 'loadBalancer'",
    ),
    "a port that is none": (_with(scheduler={"port": 70000}), "at '/scheduler/port': maximum"),
    "a tag that moves": (_with(images={"actor": {"tag": "latest"}}), "at '/images/actor/tag'"),
    "a digest that is none": (
        _with(images={"gateway": {"digest": "sha256:12"}}),
        "at '/images/gateway/digest'",
    ),
    "no limits": (
        _with(gateway={"resources": {"limits": None}}),
        "at '/gateway/resources': missing property 'limits'",
    ),
    "a login in an ICE server": (
        _with(webrtc={"iceServers": ["turn:user:password@turn.example.com"]}),
        "at '/webrtc/iceServers/0'",
    ),
    "no models": (_with(scheduler={"models": []}), "at '/scheduler/models': minItems"),
    "a time without a unit": (
        _with(scheduler={"parkAfter": "60"}),
        "at '/scheduler/parkAfter'",
    ),
    "a text for a number": (
        _with(gateway={"replicas": "2"}),
        "at '/gateway/replicas': got string, want integer",
    ),
    "a metric that is not ours": (
        _with(gateway={"autoscaling": {"metric": "cpu"}}),
        "at '/gateway/autoscaling/metric'",
    ),
    # By the templates: what only several values together can say.
    "a relay that nobody reaches": ({}, "coturn.publicHost is missing"),
    "no way for media": ({"coturn": {"enabled": False}}, "there is no TURN server"),
    "two that count gateways": (
        _with(gateway={"autoscaling": {"enabled": True}, "keda": {"enabled": True}}),
        "enable one of them",
    ),
    "fewer addresses than gateways": (
        _with(
            webrtc={"exposure": "loadBalancer", "loadBalancer": {"addresses": ["192.0.2.1"]}},
            gateway={"replicas": 3},
        ),
        "has 1 addresses for up to 3 gateways",
    ),
    "fewer addresses than the autoscaler may want": (
        _with(
            webrtc={"exposure": "loadBalancer", "loadBalancer": {"addresses": ["192.0.2.1"]}},
            gateway={"autoscaling": {"enabled": True, "maxReplicas": 5}},
        ),
        "has 1 addresses for up to 5 gateways",
    ),
    "policies for the network of nodes": (
        _with(webrtc={"exposure": "hostNetwork"}),
        "set networkPolicy.nodeCidrs",
    ),
    "TURN over TLS without a certificate": (
        {"coturn": {"publicHost": "t.example.com", "tls": {"enabled": True}}},
        "coturn.tls.secretName is missing",
    ),
    "HTTPS without a certificate": (
        _with(gateway={"tls": {"enabled": True}}),
        "gateway.tls.secretName is missing",
    ),
    "certificates of clients, which the kubelet lacks": (
        _with(gateway={"config": {"client_ca": "/ca.pem"}}),
        "client_ca",
    ),
    "Redis nowhere": (_with(ray={"redis": {"enabled": True}}), "ray.redis.address is missing"),
    "no scheduler": (_with(ray={"enabled": False}), "scheduler.host"),
    "no issuer": (
        _with(tls={"certManager": {"enabled": True}}),
        "tls.certManager.issuerRef.name is missing",
    ),
    "routes of nobody": (_with(gatewayApi={"enabled": True}), "gatewayApi.parentRefs is missing"),
    "no time left to end": (
        _with(gateway={"termination": {"graceSeconds": 60}}),
        "drainSeconds must be below graceSeconds",
    ),
    "a range that ends before it begins": (
        _with(webrtc={"udpPorts": {"first": 50100, "last": 50000}}),
        "udpPorts.first is above last",
    ),
}
