import { statesConsoleUrl } from '../../../lambda/shared/console';

test.each([
  [
    'arn:aws:states:eu-central-1:111122223333:stateMachine:Restore-1A',
    'https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/statemachines/view/arn:aws:states:eu-central-1:111122223333:stateMachine:Restore-1A',
  ],
  [
    'arn:aws-us-gov:states:us-gov-west-1:111122223333:stateMachine:Restore-1A',
    'https://us-gov-west-1.console.amazonaws-us-gov.com/states/home?region=us-gov-west-1#/statemachines/view/arn:aws-us-gov:states:us-gov-west-1:111122223333:stateMachine:Restore-1A',
  ],
  [
    'arn:aws-cn:states:cn-north-1:111122223333:execution:Restore-1A:run',
    'https://cn-north-1.console.amazonaws.cn/states/home?region=cn-north-1#/v2/executions/details/arn:aws-cn:states:cn-north-1:111122223333:execution:Restore-1A:run',
  ],
])('%s has its page in the console of its partition and region', (arn, url) => {
  expect(statesConsoleUrl(arn)).toBe(url);
});

test.each([
  'arn:aws-iso:states:us-iso-east-1:111122223333:stateMachine:Restore',
  'arn:aws:lambda:eu-central-1:111122223333:function:Restore',
  'arn:aws:states:eu-central-1:111122223333:stateMachine:a"><script>',
  'javascript:alert(1)',
  '',
])("'%s' has none", (arn) => {
  expect(statesConsoleUrl(arn)).toBeUndefined();
});
