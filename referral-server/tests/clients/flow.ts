import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

declare const process: { argv: string[] }

const baseUrl = process.argv[2] ?? ''
const client = createClient<paths>({ baseUrl })
const phone = '+79608543017'

const sent = await client.POST('/auth/send_code/', { body: { phone, locale: null } })
const code = sent.data?.code ?? ''
const signedIn = await client.POST('/auth/jwt/get_by_phone/', { body: { phone, code } })
const access = signedIn.data?.access ?? ''
const headers = { Authorization: `Bearer ${access}` }
const user = await client.GET('/users/current_user/', { headers })
const list = await client.GET('/users/', { headers, params: { query: { limit: 5 } } })
const edited = await client.PATCH('/users/current_user/', { headers, body: { first_name: 'Anna', email: null } })
const refused = await client.POST('/auth/jwt/get_by_phone/', { body: { phone, code } })
const reason: components['schemas']['ErrorCode'] | undefined = refused.error?.code
console.log(user.data?.phone, list.data?.results.length, edited.data?.first_name, reason)
