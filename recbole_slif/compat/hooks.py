"""Run code around the first import of a named module, however that import comes about.

RecBole's modules copy names from one another while they load, so a fix must be in place the moment
its module has been executed. Waiting for that moment also keeps `import recbole_slif` from
importing RecBole itself.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import ModuleType
from typing import Any

Around = Callable[[ModuleType], AbstractContextManager[Any]]


class _HookedLoader(importlib.abc.Loader):
    """Executes a module inside the context managers registered for its name."""

    def __init__(self, inner: importlib.abc.Loader, hooks: Sequence[Around]) -> None:
        self._inner = inner
        self._hooks = hooks

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:  # introspection should find the ordinary loader
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        with ExitStack() as stack:
            for hook in self._hooks:
                stack.enter_context(hook(module))
            self._inner.exec_module(module)


class HookFinder(importlib.abc.MetaPathFinder):
    """A finder that finds nothing itself: it wraps the loader of the modules it watches."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[Around]] = {}

    def watch(self, name: str, hook: Around) -> None:
        """Enter `hook(module)` around the import of module `name`.

        A module that is loaded already is handed to the hook at once.
        """
        self._hooks.setdefault(name, []).append(hook)
        loaded = sys.modules.get(name)
        if loaded is not None:
            with hook(loaded):
                pass

    def watches(self, hook: Around) -> bool:
        """Say whether a hook has been registered for any module."""
        return any(hook in hooks for hooks in self._hooks.values())

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the other finders' spec of a watched module, its loader wrapped."""
        hooks = self._hooks.get(fullname)
        if not hooks:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _HookedLoader(spec.loader, hooks)
                return spec
        return None
