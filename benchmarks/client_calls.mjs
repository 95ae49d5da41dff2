// What npm's clients of the client table call; see client_calls.py. node client_calls.mjs NAME LOCAL_URL UPSTREAM_URL

import assert from "node:assert/strict";

const [, , name, local, upstream] = process.argv;
const question = [{ role: "user", content: "Where is Paris?" }];
const texts = ["Berlin is in Germany", "Paris is in France", "Rome is in Italy"];
const documents = texts.map((text, i) => ({ id: "abc"[i], text }));
const joined = async (stream, piece) => {
  let text = "";
  for await (const chunk of stream) text += piece(chunk) ?? "";
  return text;
};

const clients = {
  async openai() {
    const { default: OpenAI } = await import("openai");
    const here = new OpenAI({ baseURL: `${local}/v1`, apiKey: "k", maxRetries: 0 });
    const there = new OpenAI({ baseURL: `${upstream}/v1`, apiKey: "k", maxRetries: 0 });
    return {
      "chat.completions with documents; stream": async () => {
        const ask = { model: "tiny", messages: question, max_tokens: 6, documents, fairpos: { methods: "set_based" } };
        const whole = await here.chat.completions.create(ask);
        assert.equal(whole.fairpos.methods, "set_based");
        const stream = await here.chat.completions.create({ ...ask, stream: true });
        const text = await joined(stream, (chunk) => chunk.choices[0]?.delta?.content);
        assert.equal(text, whole.choices[0].message.content);
      },
      "responses; stream": async () => {
        const ask = { model: "tiny", input: "Where is Paris?", max_output_tokens: 6 };
        const whole = await here.responses.create(ask);
        const stream = await here.responses.create({ ...ask, stream: true });
        assert.equal(await joined(stream, (event) => (event.type === "response.output_text.delta" ? event.delta : "")),
          whole.output_text);
      },
      "completions": async () => {
        const reply = await here.completions.create({ model: "tiny", prompt: "Paris is", max_tokens: 4, echo: true });
        assert.ok(reply.choices[0].text.startsWith("Paris is"));
      },
      "embeddings (upstream)": async () => {
        const reply = await there.embeddings.create({ model: "m", input: ["a", "b"], encoding_format: "float" });
        assert.equal(reply.data.length, 2);
      },
    };
  },
  async "@anthropic-ai/sdk"() {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const here = new Anthropic({ baseURL: local, apiKey: "k", maxRetries: 0 });
    const results = documents.map(({ id, text }) =>
      ({ type: "search_result", source: id, title: "T", content: [{ type: "text", text }] }));
    const messages = [{ role: "user", content: [...results, { type: "text", text: "Where is Paris?" }] }];
    const ask = { model: "tiny", max_tokens: 6, messages };
    return {
      "messages.create with search results": async () => {
        const reply = await here.messages.create({ ...ask, fairpos: { methods: "set_based" } });
        assert.deepEqual([reply.stop_reason, reply.usage.output_tokens], ["max_tokens", 6]);
      },
      "messages.stream": async () => {
        const whole = await here.messages.create(ask);
        const message = await here.messages.stream(ask).finalMessage();
        assert.equal(message.content[0].text, whole.content[0].text);
      },
    };
  },
  async "cohere-ai"() {
    const { CohereClientV2 } = await import("cohere-ai");
    const here = new CohereClientV2({ token: "k", environment: local, baseUrl: local });
    return {
      "v2.chat with documents; stream": async () => {
        const ask = { model: "tiny", messages: question, maxTokens: 6,
          documents: documents.map(({ id, text }) => ({ id, data: { text } })) };
        const whole = await here.chat(ask);
        const stream = await here.chatStream(ask);
        const text = await joined(stream, (event) =>
          event.type === "content-delta" ? event.delta?.message?.content?.text : "");
        assert.equal(text, whole.message.content[0].text);
      },
      "v2.rerank": async () => {
        const found = await here.rerank({ model: "tiny", query: "Where is Paris?", documents: texts });
        assert.deepEqual(found.results.map((r) => r.index).sort(), [0, 1, 2]);
      },
    };
  },
  async "@ai-sdk/openai-compatible"() {
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const { generateText, streamText } = await import("ai");
    const model = createOpenAICompatible({ name: "here", baseURL: `${local}/v1`, apiKey: "k" }).chatModel("tiny");
    return {
      "generateText; streamText": async () => {
        const ask = { model, prompt: "Where is Paris?", maxOutputTokens: 6, maxRetries: 0 };
        const whole = await generateText(ask);
        assert.equal(await joined(streamText(ask).textStream, (text) => text), whole.text);
      },
    };
  },
  async ai() {
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const { generateText } = await import("ai");
    const here = createOpenAICompatible({ name: "here", baseURL: `${local}/v1`, apiKey: "k" });
    return {
      "generateText over completions": async () => {
        const model = here.completionModel("tiny");
        assert.ok((await generateText({ model, prompt: "Paris is", maxOutputTokens: 6, maxRetries: 0 })).text);
      },
    };
  },
  async "@langchain/openai"() {
    const { ChatOpenAI } = await import("@langchain/openai");
    const llm = new ChatOpenAI({ model: "tiny", apiKey: "k", maxTokens: 6, maxRetries: 0,
      configuration: { baseURL: `${local}/v1` } });
    return {
      "ChatOpenAI; stream": async () => {
        const whole = await llm.invoke("Where is Paris?");
        assert.equal(await joined(await llm.stream("Where is Paris?"), (chunk) => chunk.text), whole.text);
      },
    };
  },
};

const found = {};
try {
  for (const [what, check] of Object.entries(await clients[name]())) {
    try {
      await check();
      found[what] = "ok";
    } catch (error) {
      found[what] = String(error).replace(/\s+/g, " ").slice(0, 300);
    }
  }
} catch (error) {
  found.import = String(error).replace(/\s+/g, " ").slice(0, 300);
}
console.log(`\n${JSON.stringify(found)}`);
process.exit(0);
