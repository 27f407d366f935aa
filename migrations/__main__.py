"""``python -m migrations upgrade | check | current``, on PARTLAB_DATABASE_URL."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from store.settings import StoreSettings, from_environment


def configuration(url: str) -> Config:
    """Return Alembic's configuration for a database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    return config


def main(arguments: list[str]) -> int:
    """Run one command; 0 on success, 2 on an unknown one."""
    settings = from_environment(StoreSettings)
    config = configuration(settings.database)
    match arguments:
        case ["upgrade"]:
            if settings.database_url is None:
                settings.state_folder.mkdir(parents=True, exist_ok=True)
            command.upgrade(config, "head")
        case ["check"]:
            command.check(config)
        case ["current"]:
            command.current(config)
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
