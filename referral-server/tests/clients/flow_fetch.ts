import { AuthApi, Configuration, ResponseError, UsersApi } from './client'

declare const process: { argv: string[] }

const basePath = process.argv[2] ?? ''
const phone = '+79608543017'

async function flow(): Promise<void> {
  const auth = new AuthApi(new Configuration({ basePath }))
  const sent = await auth.sendCode({ sendCodeRequest: { phone, locale: null } })
  const signInRequest = { phone, code: sent.code ?? '', challengeId: sent.challengeId }
  const { access } = await auth.signIn({ signInRequest })
  const users = new UsersApi(new Configuration({ basePath, accessToken: access }))
  const user = await users.getCurrentUser()
  const list = await users.listUsers({ limit: 5 })
  const edited = await users.updateCurrentUser({ profilePatch: { firstName: 'Anna', email: null } })
  const refused = await auth.signIn({ signInRequest }).catch((error: ResponseError) => error)
  const problem = refused instanceof ResponseError ? await refused.response.json() : {}
  console.log(user.phone, list.results.length, edited.firstName, problem.code)
}

void flow()
