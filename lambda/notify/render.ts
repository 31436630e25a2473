import type { Message } from './message';

/** What SNS is given: one message, in the form that each kind of subscription shows. */
export interface Rendered {
  /** Subject of an e-mail: ASCII, one line, less than 100 characters. */
  readonly subject: string;
  /** For MessageStructure `json`: `default` for e-mail and all else, `https` for Amazon Q Developer in chat applications. */
  readonly message: string;
}

// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: less than 100.
const SUBJECT_CHARACTERS = 99;
// https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html; what is longer is not shown.
const CHAT = { title: 250, description: 8000, nextStep: 350 };

/** A message as SNS takes it. Pure. */
export function render(message: Message, clusterName: string): Rendered {
  return {
    subject: subjectOf(message, clusterName),
    message: JSON.stringify({ default: textOf(message), https: JSON.stringify(chatOf(message, clusterName)) }),
  };
}

function subjectOf({ title }: Message, clusterName: string): string {
  return `etcd of ${clusterName}: ${title}`.replace(/[^ -~]+/g, '?').slice(0, SUBJECT_CHARACTERS);
}

function textOf({ facts, next, links }: Message): string {
  return [
    ...facts,
    ...(next.length === 0 ? [] : ['', 'What to do:', ...next.map((step) => `- ${step}`)]),
    '',
    ...links.map(({ label, url }) => `${label}: ${url}`),
    '',
  ].join('\n');
}

/** Amazon Q Developer in chat applications drops what is not in its own form. */
function chatOf({ title, facts, next, links, thread }: Message, clusterName: string): Record<string, unknown> {
  const heading = `etcd of ${clusterName}: ${title}`;
  return {
    version: '1.0',
    source: 'custom',
    content: {
      textType: 'client-markdown',
      title: escaped(heading, CHAT.title),
      description: escaped(
        [...facts, ...links.map(({ label, url }) => `${label}: ${url}`)].join('\n'),
        CHAT.description,
      ),
      ...(next.length === 0 ? {} : { nextSteps: next.map((step) => escaped(step, CHAT.nextStep)) }),
      keywords: ['etcd-backup', clusterName],
    },
    metadata: { threadId: thread, summary: escaped(heading, CHAT.title) },
  };
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

/** Without what a chat takes for a mention, a link or a channel-wide call, and never cut inside an entity. */
function escaped(text: string, max: number): string {
  let result = '';
  for (const character of text) {
    const next = ENTITIES[character] ?? character;
    if (result.length + next.length > max) {
      return result;
    }
    result += next;
  }
  return result;
}
