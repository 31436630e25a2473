// By partition, after the region: https://docs.aws.amazon.com/general/latest/gr/mgmt-console.html. Of a partition that is not here no
// console is known, and nothing is linked rather than something wrong.
const CONSOLE_DOMAINS: Readonly<Record<string, string>> = {
  aws: 'console.aws.amazon.com',
  'aws-cn': 'console.amazonaws.cn',
  'aws-us-gov': 'console.amazonaws-us-gov.com',
};

const STATES_ARN = /^arn:(aws[a-z-]*):states:([a-z0-9-]+):\d{12}:(stateMachine|execution):[A-Za-z0-9_:.-]+$/;

/**
 * The console's page of a state machine, where *Start execution* opens a dialog for the input, or of an execution, by its ARN. The console
 * documents no address that opens that dialog. Undefined for what is no such ARN, and in a partition whose console is not known.
 */
export function statesConsoleUrl(arn: string): string | undefined {
  const [, partition = '', region = '', what] = STATES_ARN.exec(arn) ?? [];
  const domain = CONSOLE_DOMAINS[partition];
  if (domain === undefined) {
    return undefined;
  }
  const page = what === 'execution' ? 'v2/executions/details' : 'statemachines/view';
  return `https://${region}.${domain}/states/home?region=${region}#/${page}/${arn}`;
}
