"""LangChain's own tests of chat models, run by `make integration-test`; tools and structured output are not offered.

Those that run a model, not those of constructors: of LangChain's usual arguments some say how an endpoint is called
(timeout, max_retries, api_key); they are refused here, and not dropped.
"""

import pytest

pytest.importorskip("langchain_tests", reason="make integration-test installs langchain-tests")

from langchain_tests.integration_tests import ChatModelIntegrationTests

from fairpos.integrations.langchain import FairposChat
from tests.fake_endpoint import FakeEndpoint, Text

pytestmark = pytest.mark.filterwarnings("ignore")  # of its own making


@pytest.fixture(scope="module")
def endpoint():
    with FakeEndpoint(lambda body, nth: Text("hello")) as it:
        yield it


class TestFairposChat(ChatModelIntegrationTests):
    has_tool_calling = False
    has_structured_output = False
    chat_model_class = FairposChat

    @pytest.fixture(autouse=True)
    def params(self, endpoint):
        self._url = endpoint.url

    @property
    def chat_model_params(self):
        return {"model": f"{self._url}#m", "methods": "none"}

    @pytest.fixture
    def model(self, request, params):
        return FairposChat(**self.chat_model_params, **(getattr(request, "param", None) or {}))
