"""Which Vertex AI endpoint is meant, where it listens, and what it means when it refuses.

The look-up imports `google.cloud.aiplatform_v1` alone, and only where it is needed: 1.3 s and 121 MB for a process,
against 3.2 s and 218 MB for all of `google.cloud.aiplatform`.

Source: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import google.auth.credentials
import google.auth.exceptions
from textmint.transforms.llm.base import FatalError, Refused, RequestError, Transient
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import FatalCause, error_of, meaning_of
from textmint.transforms.llm.google_credentials import LOG_IN, SCOPE
from textmint.transforms.llm.redaction import one_line
from textmint.transforms.llm.retry_after import wait_of

_LOOK_UP_SECONDS: Final = 10.0
_NAME: Final = re.compile(r"/?projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/endpoints/(?P<endpoint>[^/]+)")
_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,126}[A-Za-z0-9])?")  # a number, or mg-endpoint-UUID
_PROJECT: Final = re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]*")  # an ID, a number, or example.com:id
_LOCATION: Final = re.compile(r"[a-z][a-z0-9-]*")

_NOT_DEPLOYED: Final = re.compile(
    r"(?:does ?n.t|does not) have (?:a |any )?(?:traffic.?split|deployed)|no (?:models? (?:is |are )?)?deployed"
    r"|not (?:been )?deployed|without (?:a |any )?deployed",
    re.I,
)
_OWN_DOMAIN: Final = re.compile(r"([\w.-]+\.prediction\.vertexai\.goog)")
_OTHER_PLACE: Final = re.compile(r"(?:does ?n.t|does not) match the endpoint|location id", re.I)


class EndpointName(NamedTuple):
    """What names an endpoint."""

    project: str
    location: str
    endpoint: str

    @property
    def resource(self) -> str:
        """Its full name."""
        return f"projects/{self.project}/locations/{self.location}/endpoints/{self.endpoint}"

    @property
    def check(self) -> str:
        """The remedy where no such endpoint is found."""
        return (
            "check --vertex_endpoint, --vertex_project and --vertex_location; "
            f"`gcloud ai endpoints list --project={self.project} --region={self.location}` lists what there is"
        )

    @property
    def deploy(self) -> str:
        """The remedy where it is empty."""
        return f"deploy a model to the endpoint, or name another one by --vertex_endpoint (now {self.endpoint})"


def parse_endpoint(endpoint: str, project: str = "", location: str = "") -> EndpointName:
    """Reads an endpoint's ID, or its full name, which goes before project and location. Raises ValueError for what is
    neither, and for an ID alone without project or location."""
    wanted = "--vertex_endpoint is an endpoint's ID or projects/PROJECT/locations/REGION/endpoints/ID"
    found = _NAME.fullmatch(endpoint)
    if found:
        project, location, endpoint = found["project"], found["location"], found["endpoint"]
    if not _ID.fullmatch(endpoint):
        raise ValueError(f"{wanted}, not {endpoint!r}")
    options = ((project, _PROJECT, "--vertex_project"), (location, _LOCATION, "--vertex_location"))
    for value, pattern, option in options:
        if not value:
            raise ValueError(f"{option} is needed, or {wanted}")
        if not pattern.fullmatch(value):
            raise ValueError(f"{option} is no name that Google Cloud gives: {value!r}")
    return EndpointName(project, location, endpoint)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an endpoint listens."""

    root: str  # its URL without the version
    version: str = ""  # where the URL names one
    model: str = ""  # what is deployed there, as a person calls it


async def look_up(name: EndpointName, credentials: google.auth.credentials.Credentials) -> Address:
    """Asks Google where an endpoint listens, and what is deployed to it. Raises the RequestError of a look-up that
    failed."""
    root = _api_root(name.location)
    problem: RequestError
    try:
        found = await asyncio.to_thread(_get_endpoint, name.resource, root, credentials)
    except google.auth.exceptions.RefreshError:
        # What google-auth makes of a 401: it renews the token, and asks once more, before it gives up.
        problem = FatalError(f"{root} does not accept the credentials", LOG_IN)
    except google.auth.exceptions.GoogleAuthError as error:
        problem = Transient(f"no token for the look-up: {type(error).__name__}", dooms_probe=True)
    except Exception as error:
        problem = _look_up_error(error, name, root, credentials.token or "")
    else:
        return _address_of(found, name, root)
    raise problem


def _api_root(location: str) -> str:
    return f"https://{'' if location == 'global' else location + '-'}aiplatform.googleapis.com"


def _get_endpoint(resource: str, root: str, credentials: google.auth.credentials.Credentials) -> Any:
    from google.cloud import aiplatform_v1

    options = {"api_endpoint": root}
    with aiplatform_v1.EndpointServiceClient(
        credentials=credentials, transport="rest", client_options=options
    ) as client:
        return client.get_endpoint(name=resource, retry=None, timeout=_LOOK_UP_SECONDS)


def _address_of(found: Any, name: EndpointName, root: str) -> Address:
    if not found.deployed_models:
        raise FatalError(f"nothing is deployed to {name.resource}", name.deploy)
    split = dict(found.traffic_split)
    # the one that answers most; among equals the first by ID, the same in every process
    deployed = min(found.deployed_models, key=lambda each: (-split.get(each.id, 0), each.id))
    model = deployed.display_name or deployed.model
    domain = found.dedicated_endpoint_dns
    if domain:
        return Address(root=domain.rstrip("/") if "://" in domain else f"https://{domain}", model=model)
    if found.network or found.private_service_connect_config.enable_private_service_connect:
        raise FatalError(
            f"{name.resource} is a private endpoint, without a public address",
            "set --base_url to its address inside your network",
        )
    return Address(root=root, model=model)


def _look_up_error(error: Exception, name: EndpointName, root: str, token: str) -> RequestError:
    status = getattr(error, "code", None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        detail = f"{root} did not answer the look-up of the endpoint: {type(error).__name__}"
        return Transient(detail, dooms_probe=True)
    message = one_line(str(getattr(error, "message", "")) or str(error), token)
    headers = getattr(getattr(error, "response", None), "headers", {})
    detail = f"{root} answered {int(status)}: {message}"
    if status == 404:
        return no_endpoint(name, detail)
    fault = Fault(status=int(status), message=message, retry_after=wait_of(headers))
    found = endpoint_error(fault, name, detail)
    return FatalError(found.detail, name.check) if isinstance(found, Refused) else found


def no_endpoint(name: EndpointName, detail: str) -> FatalError:
    """Makes the error of an endpoint that is not there."""
    return FatalError(f"no endpoint {name.resource} answers: {detail}", name.check)


def endpoint_error(fault: Fault, name: EndpointName, detail: str, model: str | None = None) -> RequestError:
    """Makes the error that a fault of an endpoint is, whatever the route, as `error_of` does."""
    status, message = fault.status, fault.message
    meaning = meaning_of(fault)
    own = _OWN_DOMAIN.search(message)
    if status == 404 and meaning != "model":
        return no_endpoint(name, detail)
    if status < 500 and own and "dedicated" in message.lower():
        return FatalError(detail, f"leave --base_url out, or set it to https://{own[1]}")
    if status < 500 and status not in (403, 404) and _NOT_DEPLOYED.search(message):
        return FatalError(detail, name.deploy)
    if status == 400 and _OTHER_PLACE.search(message):
        return FatalError(detail, name.check)
    if meaning == "quota":
        detail = f"the quota is zero: {detail}"
    return error_of(fault, detail, lambda fault: _remedies(fault, name, model))


def _remedies(fault: Fault, name: EndpointName, model: str | None) -> Mapping[FatalCause, str]:
    project = name.project
    forbidden = f"grant roles/aiplatform.user in project {project} to the account of the credentials, and {name.check}"
    if "SERVICE_DISABLED" in fault.reasons or "has not been used in project" in fault.message:
        forbidden = f"run `gcloud services enable aiplatform.googleapis.com --project={project}`"
    elif "ACCESS_TOKEN_SCOPE_INSUFFICIENT" in fault.reasons:
        forbidden = f"the credentials need the scope {SCOPE}: {LOG_IN}"
    named = f"now {model!r}" if model else "now none is named"
    return {
        "key": LOG_IN,
        "forbidden": forbidden,
        "unpaid": f"enable billing for project {project}, or use another --vertex_project",
        "quota": f"ask for quota at https://console.cloud.google.com/iam-admin/quotas?project={project}, or use "
        "another --vertex_project or --vertex_location",
        "model": f"set --model to a name that the container serves ({named})",
        "route": name.check,
        "place": "use another --vertex_location, or an endpoint in another project",
    }
