"""What a container is made of: its command, its environment, and the folders that are its volumes.

How this is simpler than Kubernetes stands in the package.
"""

import base64
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.kubernetes_node.config import Config
from tests.kubernetes_node.store import Object, Store

ADDRESS = "127.0.0.1"
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_SCRATCH = (Path("/tmp"), Path("/dev/shm"))  # what an emptyDir may be mounted over
REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")


class ConfigError(Exception):
    """A container can't be made from what its pod says."""


class Maker:
    """Makes containers' parts, and knows which mount points are links that it made."""

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self.links: dict[Path, set[str]] = {}  # with the uids of the pods that have each

    def pod(self, pod: Object) -> "MadePod":
        return MadePod(self, pod)

    def close(self) -> None:
        for link in self.links:
            link.unlink(missing_ok=True)


class MadePod:
    """The folders of a pod."""

    def __init__(self, maker: Maker, pod: Object) -> None:
        self._maker, self._config, self._pod = maker, maker.config, pod
        self._namespace, self._uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        self._folder = Path(maker.config.root) / "pods" / self._uid
        self._volumes: dict[str, Path] = {}

    def remove(self) -> None:
        """Take away the pod's folder, and mount points that no pod has any more."""
        for target, users in list(self._maker.links.items()):
            users.discard(self._uid)
            if not users:
                target.unlink(missing_ok=True)
                del self._maker.links[target]
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, spec: Object) -> Object:
        """A container's command, environment and folder, for the shim."""
        env = self._environment(spec)
        for mount in spec.get("volumeMounts") or []:
            self._mount(mount)
        words = [*(spec.get("command") or []), *(spec.get("args") or [])]
        if not words:
            raise ConfigError("no command specified, and images here have none of their own")
        home = self._folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        env.setdefault("HOME", str(home))
        cwd = spec.get("workingDir") or str(home)
        if not Path(cwd).is_dir():
            raise ConfigError(f"workingDir {cwd} is no folder on the machine of the tests")
        return {"argv": [self._local(expand(word, env)) for word in words], "env": env, "cwd": cwd}

    def _environment(self, spec: Object) -> dict[str, str]:
        env = {"PATH": USUAL_PATH, **self._config.images[spec["image"]]}
        metadata = self._pod["metadata"]
        env["HOSTNAME"] = self._pod["spec"].get("hostname") or metadata["name"]
        for source in spec.get("envFrom") or []:
            if "secretRef" not in source:
                raise ConfigError("envFrom has a source that the tests' cluster lacks")
            data = self._secret(source["secretRef"]["name"])
            env |= {key: value.decode() for key, value in data.items()}
        for variable in spec.get("env") or []:
            env[variable["name"]] = self._local(self._value(variable, env))
        return env

    def _value(self, variable: Object, env: Mapping[str, str]) -> str:
        source = variable.get("valueFrom")
        if not source:
            return expand(variable.get("value") or "", env)
        if reference := source.get("secretKeyRef"):
            data = self._secret(reference["name"])
            if reference["key"] not in data:
                place = f"{self._namespace}/{reference['name']}"
                raise ConfigError(f"couldn't find key {reference['key']} in Secret {place}")
            return data[reference["key"]].decode()
        path = (source.get("fieldRef") or {}).get("fieldPath", "")
        metadata = self._pod["metadata"]
        if match := re.fullmatch(r"metadata\.labels\['([^']+)'\]", path):
            return str((metadata.get("labels") or {}).get(match[1], ""))
        if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
            return str(metadata[path.removeprefix("metadata.")])
        raise ConfigError(f"env {variable['name']} has a source that the tests' cluster lacks")

    def _secret(self, name: str) -> dict[str, bytes]:
        secret = self._maker.store.find("secrets", self._namespace, name)
        if secret is None:
            raise ConfigError(f'secret "{name}" not found')
        return {key: base64.b64decode(value) for key, value in secret["data"].items()}

    def _local(self, text: str) -> str:
        """Names of headless services' pods become this machine."""
        for service in self._maker.store.all("services", self._namespace):
            name = re.escape(service["metadata"]["name"])
            text = re.sub(rf"(?<![\w./-])[a-z0-9-]+\.{name}(?![\w./-])", ADDRESS, text)
        return text

    # Volumes.

    def add_volume(self, volume: Object) -> None:
        """Make a volume's folder."""
        if claim := volume.get("persistentVolumeClaim"):
            folder = Path(self._config.claims[claim["claimName"]])
        elif "emptyDir" in volume:
            folder = self._folder / "volumes" / volume["name"]
        else:
            raise ConfigError("a kind of volume that the tests' cluster lacks")
        folder.mkdir(parents=True, exist_ok=True)
        self._volumes[volume["name"]] = folder

    def _mount(self, mount: Object) -> None:
        """Have a volume at its mount path: it is there already, or a link is made.

        Raises:
            ConfigError: Something else is there, or it is where no link may be made.
        """
        if mount.get("subPath"):
            raise ConfigError("subPath is not built in the tests' cluster")
        source = self._volumes[mount["name"]]
        target, links = Path(mount["mountPath"]), self._maker.links
        if target in links and target.resolve() == source.resolve():
            links[target].add(self._uid)
            return
        if target.exists():
            scratch = "volumes" in source.parts and target in OWN_SCRATCH
            if scratch or target.samefile(source):
                return
            raise ConfigError(
                f"mountPath {target} is there and is not {source}; the tests' cluster has no mount "
                "namespaces: mount a claim at its own folder, or where nothing is"
            )
        root = Path(self._config.mounts).resolve()
        if not target.resolve().is_relative_to(root):
            raise ConfigError(
                f"mountPath {target} is not below {root}, where the tests' cluster may make it"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
        links[target] = {self._uid}


def expand(text: str, env: Mapping[str, str]) -> str:
    """``$(NAME)`` becomes the variable's value, ``$$`` one ``$``; unknown names stay."""

    def value(match: "re.Match[str]") -> str:
        return "$" if match[1] == "$" else env.get(match[2], match[0])

    return REFERENCE.sub(value, text)
