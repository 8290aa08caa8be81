"""The protocol of docs/protocol.md, searched exhaustively: every order of steps of two workers, the clock, the broker and one phone, for one
delivery, with crashes, lost connections, lapsed leases, a duplicate request, purges and refused pushes. Run: python3 protocol_model.py

Intake commits notification and delivery (version 1, lease), then acks. The clock publishes hints (version unchanged). A take is a compare-and-set on
the version. A push starts only while its lease holds. A record is guarded by the version. A receipt is one conditional update.
Faults are budgets; G4 allows one more push per fault. The last runs break one rule each and must be caught (all but the last, which costs order, not safety)."""
from collections import deque
import sys
OPEN=('raw','watch','toast')   # form of the next push: raw due/sending, watch = raw accepted, toast = toast due/sending(after first toast attempt refused)
def run(name,crashes=1,closs=1,over=1,dup=1,purge=1,hpurge=1,rawref=1,toastref=1,maxh=2,fence=True,cas=True,guard=True,early=False,bump=False,cap=6_000_000):
    # row=(S,ver,ready,lease,hold): ready=1: next_at past; lease=1: taken and lease running; hold=1: publish hold running
    B=(crashes,closs,over,dup,purge,hpurge,rawref,toastref)
    st=((('A'),),(),None,None,None,0,0,0,0,0,B,0)  # q,hints,W1,W2,row,R,D,RW,T,x,b,F
    seen={st:None};dq=deque([st]);viol={};term=0
    while dq:
        s=dq.popleft();q,H,W1,W2,row,R,D,RW,T,x,b,F=s;cr,cl,ox,du,pu,hp,rr,tr=b;out=[]
        def nb(**k):
            d=dict(cr=cr,cl=cl,ox=ox,du=du,pu=pu,hp=hp,rr=rr,tr=tr);d.update(k);return tuple(d.values())
        def add(l,**k):
            d=dict(q=q,H=H,W1=W1,W2=W2,row=row,R=R,D=D,RW=RW,T=T,x=x,b=b,F=F);d.update(k)
            d['q']=tuple(sorted(d['q']));d['H']=tuple(sorted(d['H']));out.append((l,tuple(d.values())))
        if du: add('duplicate published',q=q+('B',),b=nb(du=du-1))
        if pu and row and q: add('requests purged after commit',q=(),b=nb(pu=pu-1))
        if hp and H: add('hints purged',H=(),b=nb(hp=hp-1))
        if row:
            S,v,ready,lease,hold=row
            if S in OPEN and not ready and not lease: add('next_at passes'+(' (deadline)' if S=='watch' else ''),row=(S,v,1,0,0),D=1 if S=='watch' else D)
            if lease and S in OPEN:
                live=[n for n,W in(('W1',W1),('W2',W2)) if W and W[2]==v]
                if not live: add('lease of the dead ends',row=(S,v,1,0,0))
                elif ox: add('lease ends on the living',row=(S,v,1,0,0),b=nb(ox=ox-1),F=F+1,**{n:(W1 if n=='W1' else W2)[:4]+(1,) for n in live})
            if S in OPEN and ready and not hold and len(H)<maxh:
                nv=v+1 if bump else v
                add('clock publishes hint v%d'%nv,H=H+(nv,),row=(S,nv,1,0,1))
            if hold: add('publish hold ends',row=(S,v,ready,lease,0))
            if RW and R==0: add('receipt answered (D=%d)'%D,R=2 if D else 1,row=('received',v+1,0,0,0) if S in OPEN else row)
        for n,W in(('W1',W1),('W2',W2)):
            if W is None:
                for m in set(q):
                    r=list(q);r.remove(m);add(f'{n} gets request {m}',q=tuple(r),**{n:(m,'got',0,'',0)})
                for h in set(H):
                    r=list(H);r.remove(h);add(f'{n} gets hint v{h}',H=tuple(r),**{n:('h%d'%h,'hint',0,'',0)})
            else:
                src,pc,v,form,ex=W
                back=dict(H=H+(int(src[1:]),)) if pc in('hint','hack') else (dict(q=q+(src,)) if pc in('got','ack') else {})
                if cr: add(f'{n} crashes at {pc}',b=nb(cr=cr-1),F=F+1,**{**back,n:None})
                if cl and pc in('got','ack','hint','hack'): add(f'{n} loses connection at {pc}',b=nb(cl=cl-1),F=F+1,**{**back,n:(('x','go',v,form,ex) if pc in('ack','hack') and v else None)})
                if pc=='got':
                    if early and not row: add(f'{n} acks before commit',**{n:('x','commit',0,'',0)})
                    elif row is None: add(f'{n} commits, v1',row=('raw',1,0,1,0),**{n:(src,'ack',1,'raw',0)})
                    else: add(f'{n} key stored: ack',**{n:None})
                elif pc=='commit': add(f'{n} commits late',row=row or ('raw',1,0,1,0),**{n:('x','go',1,'raw',0) if not row else None})
                elif pc=='ack': add(f'{n} acks request',**{n:('x','go',v,form,ex)})
                elif pc=='hint':
                    h=int(src[1:])
                    if row and row[0] in OPEN and (row[1]==h or not cas):
                        S=row[0];f='raw' if S=='raw' else 'toast'
                        add(f'{n} takes v{row[1]}->v{row[1]+1} {f}',row=(S if S!='watch' else 'watch',row[1]+1,0,1,0),**{n:(src,'hack',row[1]+1,f,0)})
                    else: add(f'{n} stale hint',**{n:None})
                elif pc=='hack': add(f'{n} acks hint',**{n:('x','go',v,form,ex)})
                elif pc=='go':
                    if ex and fence: add(f'{n} lease over, gives up',**{n:None})
                    elif form=='raw': add(f'{n} pushes raw',RW=RW+1,x=x|(1 if T else 0),**{n:(src,'rec',v,form,ex)})
                    else:
                        if R==1: viol.setdefault('G3 needless toast',s)
                        add(f'{n} pushes toast',T=T+1,**{n:(src,'rec',v,form,ex)})
                elif pc=='rec':
                    opts=[('watch' if form=='raw' else 'toasted',b)]
                    if form=='raw' and rr: opts.append(('raw',nb(rr=rr-1)))
                    if form!='raw' and tr: opts.append(('toast',nb(tr=tr-1)))
                    for o,bb in opts:
                        if row and ((row[1]==v and row[0] in OPEN) or not guard): add(f'{n} records {o}',row=(o,row[1]+1,0,0,0),b=bb,**{n:None})
                        else: add(f'{n} record refused',b=bb,**{n:None})
        if RW>1+F+rawref-rr: viol.setdefault(f'G4 raw {RW} faults {F}',s)
        if T>1+F+toastref-tr: viol.setdefault(f'G4 toast {T} faults {F}',s)
        if x: viol.setdefault('raw after toast',s)
        if not out:
            term+=1
            if row is None: viol.setdefault('G1 lost',s)
            elif row[0] in OPEN: viol.setdefault('G1 stuck',s)
            elif row[0]=='received' and R==0: viol.setdefault('bogus',s)
        for l,nx in out:
            if nx not in seen: seen[nx]=(l,s);dq.append(nx)
        if len(seen)>cap: print('cap reached');break
    print('==',name,len(seen),'states',term,'terminal','VIOLATIONS' if viol else 'clean',list(viol));sys.stdout.flush()
    for k,s in list(viol.items())[:2]:
        t=[];y=s
        while seen[y]: t.append(seen[y][0]);y=seen[y][1]
        print('   ',k,':',' | '.join(reversed(t)))
if __name__=='__main__':
    run('all faults once')
    run('two crashes, no refusals',crashes=2,rawref=0,toastref=0,closs=0)
    run('two overruns',crashes=0,over=2,rawref=0,toastref=0)
    Z=dict(crashes=1,closs=0,over=1,dup=1,purge=0,hpurge=0,rawref=0,toastref=0)
    run('MUT no fence',**{**Z,'fence':False})
    run('MUT no CAS on take',**{**Z,'cas':False})
    run('MUT unguarded record',**{**Z,'guard':False})
    run('MUT ack before commit',**{**Z,'dup':0,'early':True})
    run('MUT version bumped at publish',**{**Z,'bump':True})
