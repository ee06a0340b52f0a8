"""What does one process need to know? Settings from the environment, all beginning with ECHO_."""

from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from echo_proxy.errors import SettingsError


class Settings(BaseSettings):
    """Where things are and how long we wait for them. Policies say what to do; settings say with what."""

    model_config = SettingsConfigDict(env_prefix="ECHO_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    policy: str = "policies/default.yaml"
    """Policy files or folders of them, separated by commas."""
    state_dir: Path = Path("~/.echo-proxy")
    """Folder for the embedded store, local models' logs and addresses."""
    store_url: SecretStr = SecretStr("")
    """redis://, rediss://, redis+sentinel://, redis+cluster://, unix://, sqlite:///file, embedded:///folder; empty =
    embedded Redis in the state folder where its wheels are installed, else SQLite there. May hold a password."""
    store_timeout_s: float = Field(default=0.5, gt=0, le=60)
    """Longest wait for one answer of the store."""
    embedder: str = "local"
    """`local` = the bundled MiniLM; else a LiteLLM embedding model, e.g. `openai/text-embedding-3-small`."""
    embedder_dimensions: int = Field(default=384, ge=1, le=8192)
    """Vector size of a hosted embedding model."""
    embedder_api_base: str | None = None
    """Address of the hosted embedding model, when it is not the provider's own."""
    embedder_api_key: SecretStr | None = None
    """Key of the hosted embedding model, when it is not in the provider's own variable."""
    refresh_s: float = Field(default=1.0, gt=0, le=60)
    """How often a worker reads what the others have learned, and looks whether a policy file changed."""
    max_pending: int = Field(default=10_000, ge=10)
    """Outcomes that wait in memory while the store is away; beyond it the oldest is dropped and counted."""
    litellm_config: Path | None = None
    """LiteLLM's config file, to check policies against before the proxy is up; `serve` sets it."""

    @property
    def folder(self) -> Path:
        """The state folder, absolute."""
        return self.state_dir.expanduser().absolute()

    @property
    def policy_places(self) -> tuple[Path, ...]:
        """Files and folders named by `policy`."""
        return tuple(Path(part.strip()).expanduser() for part in self.policy.split(",") if part.strip())


def read_settings() -> Settings:
    """The settings of this process. Raises SettingsError naming the variable, without its value: it may be secret."""
    try:
        return Settings()
    except ValidationError as error:
        complaints = (f"ECHO_{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors())
        raise SettingsError("; ".join(complaints)) from None
