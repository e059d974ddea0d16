"""The address that clients use, and how requests reach the pools."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gcp as gcp

import contract
from components.gpu_group import GpuGroup
from components.naming import Names
from components.settings.load_balancer import HttpsSettings, LoadBalancerSettings

SCHEME: Final = "EXTERNAL_MANAGED"
"""Global external Application Load Balancer; explicit, as the provider's default for it has changed before."""
HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerArgs:
    """A balancer before one group a pool."""

    names: Names
    settings: LoadBalancerSettings
    groups: Sequence[GpuGroup]
    hooks: pulumi.ResourceHookBinding | None = None
    """Of the forwarding rule that leads to the groups."""


class LoadBalancer(pulumi.ComponentResource):
    """Global external Application Load Balancer: forwarding rule, proxy, URL map, backend service, health check.

    Outputs: `address` (IPv4), `endpoint` (URL without final slash), `backend_service` (self link) and `url_map_name`,
    by which Monitoring knows its metrics.
    """

    address: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    backend_service: pulumi.Output[str]
    url_map_name: pulumi.Output[str]

    def __init__(self, name: str, args: LoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:network:LoadBalancer", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        settings = args.settings
        address = gcp.compute.GlobalAddress(
            f"{name}-address",
            project=args.names.project,
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect_address),
        )
        backend = self._backend_service(self._serving_health())
        urls = gcp.compute.URLMap(
            f"{name}-url-map", project=args.names.project, default_service=backend.self_link, opts=self._child
        )
        if settings.https:
            proxy = self._https_proxy(urls, settings.https)
            self._forward("https", address, proxy.self_link, HTTPS_PORT, args.hooks)
            self._forward("http", address, self._http_proxy(self._redirect()).self_link, settings.port)
            self.endpoint = pulumi.Output.from_input(f"https://{settings.https.domains[0]}")
        else:
            self._forward("http", address, self._http_proxy(urls).self_link, settings.port, args.hooks)
            port = "" if settings.port == 80 else f":{settings.port}"
            self.endpoint = pulumi.Output.concat("http://", address.address, port)
        self.address, self.backend_service, self.url_map_name = address.address, backend.self_link, urls.name
        self.register_outputs({"endpoint": self.endpoint, "backendService": self.backend_service})

    def _serving_health(self) -> gcp.compute.HealthCheck:
        return gcp.compute.HealthCheck(
            f"{self._name}-serving-health",
            project=self._args.names.project,
            check_interval_sec=contract.PROBE_INTERVAL_S,
            timeout_sec=contract.PROBE_INTERVAL_S,
            healthy_threshold=contract.PROBES_TO_HEALTHY,
            unhealthy_threshold=contract.PROBES_TO_UNHEALTHY,
            http_health_check=gcp.compute.HealthCheckHttpHealthCheckArgs(
                port=contract.API_PORT, request_path=contract.MODEL_PATH
            ),
            log_config=gcp.compute.HealthCheckLogConfigArgs(enable=True),
            opts=self._child,
        )

    def _backend_service(self, health_check: gcp.compute.HealthCheck) -> gcp.compute.BackendService:
        settings = self._args.settings
        logs = settings.logging
        return gcp.compute.BackendService(
            f"{self._name}-backend",
            project=self._args.names.project,
            load_balancing_scheme=SCHEME,
            protocol="HTTP",
            port_name=contract.NAMED_PORT,
            timeout_sec=settings.timeout_s,
            connection_draining_timeout_sec=settings.drain_s,
            health_checks=health_check.self_link,
            backends=[_backend(group.instance_group, settings) for group in self._args.groups],
            security_policy=settings.security_policy,
            log_config=gcp.compute.BackendServiceLogConfigArgs(
                enable=logs is not None, sample_rate=logs.sample_rate if logs else None
            ),
            opts=self._child,
        )

    def _redirect(self) -> gcp.compute.URLMap:
        return gcp.compute.URLMap(
            f"{self._name}-redirect",
            project=self._args.names.project,
            default_url_redirect=gcp.compute.URLMapDefaultUrlRedirectArgs(
                https_redirect=True,
                # Clients keep method and body with 308; with 301 a POST would arrive as a GET.
                redirect_response_code="PERMANENT_REDIRECT",
                strip_query=False,
            ),
            opts=self._child,
        )

    def _http_proxy(self, urls: gcp.compute.URLMap) -> gcp.compute.TargetHttpProxy:
        return gcp.compute.TargetHttpProxy(
            f"{self._name}-http-proxy", project=self._args.names.project, url_map=urls.self_link, opts=self._child
        )

    def _https_proxy(self, urls: gcp.compute.URLMap, https: HttpsSettings) -> gcp.compute.TargetHttpsProxy:
        certificate = gcp.compute.ManagedSslCertificate(
            f"{self._name}-certificate",
            project=self._args.names.project,
            managed=gcp.compute.ManagedSslCertificateManagedArgs(domains=[*https.domains]),
            opts=self._child,
        )
        return gcp.compute.TargetHttpsProxy(
            f"{self._name}-https-proxy",
            project=self._args.names.project,
            url_map=urls.self_link,
            ssl_certificates=[certificate.self_link],
            opts=self._child,
        )

    def _forward(
        self,
        protocol: str,
        address: gcp.compute.GlobalAddress,
        target: pulumi.Input[str],
        port: int,
        hooks: pulumi.ResourceHookBinding | None = None,
    ) -> gcp.compute.GlobalForwardingRule:
        return gcp.compute.GlobalForwardingRule(
            f"{self._name}-{protocol}",
            project=self._args.names.project,
            load_balancing_scheme=SCHEME,
            ip_protocol="TCP",
            ip_address=address.address,
            port_range=str(port),
            target=target,
            opts=pulumi.ResourceOptions(
                parent=self,
                # Groups are empty until their autoscalers exist: an address before that would answer 503 only.
                depends_on=[group.autoscaler for group in self._args.groups],
                hooks=hooks,
            ),
        )


def _backend(group: pulumi.Input[str], settings: LoadBalancerSettings) -> gcp.compute.BackendServiceBackendArgs:
    """UTILIZATION is CPU utilisation (Google Cloud, "Backend services overview"); RATE counts requests."""
    return gcp.compute.BackendServiceBackendArgs(
        group=group,
        balancing_mode=settings.mode,
        capacity_scaler=settings.capacity_scaler,
        max_utilization=settings.max_utilization if settings.mode == "UTILIZATION" else None,
        max_rate_per_instance=settings.max_rate_per_instance,
    )
