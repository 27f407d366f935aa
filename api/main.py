"""What uvicorn serves: ``uvicorn api.main:app``. Settings come from the environment."""

import logging

from api.app import create_app
from api.settings import ApiSettings
from store.settings import from_environment

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

app = create_app(from_environment(ApiSettings))
