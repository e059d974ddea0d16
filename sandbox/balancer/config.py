"""Envoy's configuration for a resolved chain: pure functions from it to xDS files.

Files, because Envoy then needs no server to be configured and keeps serving what they say while the daemon is away.
Each is replaced by a rename, which is what Envoy watches for.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from sandbox.balancer.chain import Chain, Cluster, Endpoint, Frontend, Redirect, Route, RouteTable, VirtualHost
from sandbox.compute.names import region_of, short

LISTENERS: Final = "lds.json"
CLUSTERS: Final = "cds.json"

BACKEND_KEEP_ALIVE_S: Final = 600
"""Idle time after which the balancer closes a connection to a backend: fixed (Google Cloud, "Request distribution for
external Application Load Balancers", 2026-11)."""

_TYPES: Final = "type.googleapis.com/"
_LISTENER: Final = f"{_TYPES}envoy.config.listener.v3.Listener"
_ROUTES: Final = f"{_TYPES}envoy.config.route.v3.RouteConfiguration"
_CLUSTER: Final = f"{_TYPES}envoy.config.cluster.v3.Cluster"
_ASSIGNMENT: Final = f"{_TYPES}envoy.config.endpoint.v3.ClusterLoadAssignment"
_CONNECTION_MANAGER: Final = (
    f"{_TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_UNLIMITED: Final = 1_000_000
"""Google documents no limit of this kind; Envoy's own default of 1024 connections would be one."""
_CONNECT_TIMEOUT_S: Final = 5
_RETRIED: Final = ("GET", "HEAD", "OPTIONS")
"""Requests without a body are tried once more on 502, 503 and 504; others never (same page)."""
_POLICIES: Final = {
    "ROUND_ROBIN": "ROUND_ROBIN",
    "WEIGHTED_ROUND_ROBIN": "ROUND_ROBIN",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "RANDOM": "RANDOM",
}

Document = dict[str, Any]


def bootstrap(folder: Path) -> Document:
    """What Envoy starts with: nothing but where its configuration lies. No admin port."""
    return {
        "node": {"id": "sandbox", "cluster": "sandbox"},
        "dynamic_resources": {
            "lds_config": _file_source(folder / LISTENERS),
            "cds_config": _file_source(folder / CLUSTERS),
        },
    }


def documents(chain: Chain, folder: Path, access_log: Path) -> dict[str, Document]:
    """File name -> contents, in the order in which they must be written: what is referred to comes first."""
    files: dict[str, Document] = {}
    for cluster in chain.clusters:
        files[_endpoints_file(cluster.name)] = _response(_ASSIGNMENT, [_assignment(cluster)])
    files[CLUSTERS] = _response(_CLUSTER, [_cluster(cluster, folder) for cluster in chain.clusters])
    timeouts = {cluster.name: cluster.service.timeout_s for cluster in chain.clusters}
    for table in chain.tables:
        files[_routes_file(table.name)] = _response(_ROUTES, [_route_configuration(table, timeouts)])
    files[LISTENERS] = _response(_LISTENER, [_listener(frontend, folder, access_log) for frontend in chain.frontends])
    return files


def _response(kind: str, resources: list[Document]) -> Document:
    typed = [{"@type": kind, **resource} for resource in resources]
    version = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:16]
    return {"version_info": version, "resources": typed}


def _listener(frontend: Frontend, folder: Path, access_log: Path) -> Document:
    return {
        "name": frontend.name,
        "address": _socket_address(frontend.address, frontend.port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(frontend, folder, access_log),
                    }
                ]
            }
        ],
    }


def _connection_manager(frontend: Frontend, folder: Path, access_log: Path) -> Document:
    router = f"{_TYPES}envoy.extensions.filters.http.router.v3.Router"
    return {
        "@type": _CONNECTION_MANAGER,
        "stat_prefix": frontend.name,
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": f"{frontend.client_keep_alive_s}s"},
        "rds": {
            "route_config_name": short(frontend.table),
            "config_source": _file_source(folder / _routes_file(short(frontend.table))),
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": router, "suppress_envoy_headers": True}}
        ],
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{_TYPES}envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(access_log),
                    "log_format": {"json_format": _access_log_entry(frontend)},
                },
            }
        ],
    }


def _access_log_entry(frontend: Frontend) -> Document:
    """Named as in Cloud Logging's entries for this balancer, as far as Envoy knows the values."""
    return {
        "timestamp": "%START_TIME%",
        "forwardingRule": frontend.name,
        "backendTarget": "%UPSTREAM_CLUSTER%",
        "requestMethod": "%REQUEST_HEADER(:METHOD)%",
        "requestUrl": "%REQUEST_HEADER(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "requestSize": "%BYTES_RECEIVED%",
        "responseSize": "%BYTES_SENT%",
        "latencyMs": "%DURATION%",
        "remoteIp": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "serverIp": "%UPSTREAM_HOST%",
        "statusDetails": "%RESPONSE_CODE_DETAILS%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    }


def _route_configuration(table: RouteTable, timeouts: dict[str, float]) -> Document:
    return {"name": table.name, "virtual_hosts": [_virtual_host(host, timeouts) for host in table.hosts]}


def _virtual_host(host: VirtualHost, timeouts: dict[str, float]) -> Document:
    return {
        "name": host.name,
        "domains": list(host.domains),
        "routes": [_route(route, timeouts) for route in host.routes],
    }


def _route(route: Route, timeouts: dict[str, float]) -> Document:
    match = {"prefix": route.path.removesuffix("*")} if route.path.endswith("/*") else {"path": route.path}
    if isinstance(route.to, Redirect):
        return {"match": match, "redirect": _redirect(route.to)}
    return {
        "match": match,
        "route": {
            "cluster": route.to,
            "timeout": f"{timeouts[route.to]:g}s",
            "retry_policy": {
                "retry_on": "gateway-error",
                "num_retries": 1,
                "retriable_request_headers": [
                    {"name": ":method", "string_match": {"exact": method}} for method in _RETRIED
                ],
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": f"{_TYPES}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 3,
            },
        },
    }


def _redirect(redirect: Redirect) -> Document:
    action: Document = {"response_code": redirect.code, "strip_query": redirect.strip_query}
    if redirect.https:
        action["https_redirect"] = True
    if redirect.host:
        action["host_redirect"] = redirect.host
    if redirect.path:
        action["path_redirect"] = redirect.path
    elif redirect.prefix:
        action["prefix_rewrite"] = redirect.prefix
    return action


def _cluster(cluster: Cluster, folder: Path) -> Document:
    protocol = f"{_TYPES}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    unlimited = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), _UNLIMITED)
    return {
        "name": cluster.name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _file_source(folder / _endpoints_file(cluster.name))},
        "connect_timeout": f"{_CONNECT_TIMEOUT_S}s",
        "lb_policy": _POLICIES.get(cluster.service.locality_policy, "ROUND_ROBIN"),
        # Without this Envoy would send requests to unhealthy endpoints once too few are healthy.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **unlimited}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": protocol,
                "common_http_protocol_options": {"idle_timeout": f"{BACKEND_KEEP_ALIVE_S}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _assignment(cluster: Cluster) -> Document:
    zones = sorted({endpoint.zone for endpoint in cluster.endpoints})
    return {
        "cluster_name": cluster.name,
        "endpoints": [
            {
                "locality": {"region": region_of(zone), "zone": zone},
                "lb_endpoints": [_endpoint(one) for one in cluster.endpoints if one.zone == zone],
            }
            for zone in zones
        ],
    }


def _endpoint(endpoint: Endpoint) -> Document:
    return {
        "endpoint": {"address": _socket_address(endpoint.address, endpoint.port)},
        "load_balancing_weight": endpoint.weight,
    }


def _socket_address(address: str, port: int) -> Document:
    return {"socket_address": {"address": address, "port_value": port}}


def _file_source(path: Path) -> Document:
    return {
        "path_config_source": {"path": str(path)},
        "resource_api_version": "V3",
    }


def _endpoints_file(cluster: str) -> str:
    return f"eds-{short(cluster)}.json"


def _routes_file(table: str) -> str:
    return f"rds-{table}.json"
